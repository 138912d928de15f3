// Requests for files of a Python kernel in V8: its file system is in memory, but for mounts. Answers are
// bytes, or the JSON of what `FileReply` of the kernel protocol says.

import { primordials } from "ext:core/mod.js";

const { Error, JSONStringify, Uint8Array } = primordials;

// Emscripten has the numbers of WASI.
const ERRORS = {
  2: "Denied", // EACCES
  8: "NotFound", // EBADF
  20: "NotEmpty", // EEXIST
  28: "BadPath", // EINVAL
  31: "IsDirectory",
  32: "Denied", // ELOOP
  37: "BadPath", // ENAMETOOLONG
  44: "NotFound", // ENOENT
  51: "NoSpace",
  54: "NotDirectory",
  55: "NotEmpty",
  63: "Denied", // EPERM
  69: "Denied", // EROFS
  75: "Denied", // EXDEV
};

const DONE = JSONStringify("Done");

class Refused extends Error {
  constructor(kind) {
    super(kind);
    this.kind = kind;
  }
}

function guarded(step) {
  return (...args) => {
    try {
      return step(...args);
    } catch (error) {
      const kind = error?.kind ?? ERRORS[error?.errno];
      return JSONStringify({ Failed: kind ?? { Other: `${error?.message ?? error}` } });
    }
  };
}

export function fileRequests(FS, cwd) {
  const absolute = (path) => path.startsWith("/") ? path : `${cwd}/${path}`;

  function isDirectory(path) {
    try {
      return FS.isDir(FS.stat(path).mode);
    } catch {
      return false;
    }
  }

  function entry(name, stat) {
    const kind = FS.isFile(stat.mode) ? "file" : FS.isDir(stat.mode) ? "directory" : "other";
    return {
      name,
      kind,
      size: kind === "file" ? stat.size : 0,
      modified: stat.mtime instanceof Date ? stat.mtime.getTime() : null,
    };
  }

  function opened(path, flags, use) {
    const stat = flags.includes("w") ? undefined : FS.stat(path);
    if (stat && FS.isDir(stat.mode)) throw new Refused("IsDirectory");
    if (stat && !FS.isFile(stat.mode)) throw new Refused("NotFile");
    const stream = FS.open(path, flags);
    try {
      return use(stream);
    } finally {
      FS.close(stream);
    }
  }

  function remove(path, recursive) {
    const { mode } = FS.lstat(path);
    if (!FS.isDir(mode)) return FS.unlink(path);
    if (recursive) {
      for (const name of FS.readdir(path)) {
        if (name !== "." && name !== "..") remove(`${path}/${name}`, true);
      }
    }
    FS.rmdir(path);
  }

  return {
    stat: guarded((path) => {
      path = absolute(path);
      const name = path.split("/").filter((part) => part !== "").pop() ?? "";
      return JSONStringify({ Entry: entry(name, FS.stat(path)) });
    }),
    list: guarded((path, most) => {
      path = absolute(path);
      if (!FS.isDir(FS.stat(path).mode)) throw new Refused("NotDirectory");
      const names = FS.readdir(path).filter((name) => name !== "." && name !== "..");
      if (names.length > most) throw new Refused("TooManyEntries");
      const entries = names.toSorted().map((name) => {
        try {
          return entry(name, FS.stat(`${path}/${name}`));
        } catch {
          return entry(name, FS.lstat(`${path}/${name}`));
        }
      });
      return JSONStringify({ Entries: entries });
    }),
    read: guarded((path, offset, length) =>
      opened(absolute(path), "r", (stream) => {
        const bytes = new Uint8Array(length);
        const read = FS.read(stream, bytes, 0, length, offset);
        return bytes.subarray(0, read);
      })
    ),
    write: guarded((path, offset, data) => {
      path = absolute(path);
      if (offset === 0) FS.mkdirTree(path.slice(0, path.lastIndexOf("/")) || "/");
      return opened(path, offset === 0 ? "w" : "r+", (stream) => {
        let written = 0;
        while (written < data.length) {
          written += FS.write(stream, data, written, data.length - written, offset + written);
        }
        return DONE;
      });
    }),
    rename: guarded((from, to) => {
      const target = absolute(to);
      if (isDirectory(target)) throw new Refused("IsDirectory");
      FS.rename(absolute(from), target);
      return DONE;
    }),
    remove: guarded((path, recursive) => {
      remove(absolute(path), recursive);
      return DONE;
    }),
  };
}
