// A file system for Emscripten that shows a folder of the kernel's own file system: every operation is
// one of Deno's, so the kernel's permissions and the borders of its mounts hold.

import { core } from "ext:core/mod.js";

const { op_fs_lstat_sync } = core.ops;

const SEEK_CUR = 1;
const SEEK_END = 2;
const O_ACCMODE = 0o3;
const O_WRONLY = 0o1;
const O_RDWR = 0o2;
const O_CREAT = 0o100;
const O_EXCL = 0o200;
const O_TRUNC = 0o1000;
const O_APPEND = 0o2000;
const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;

const CODES = {
  __proto__: null,
  NotFound: "ENOENT",
  AlreadyExists: "EEXIST",
  PermissionDenied: "EACCES",
  NotCapable: "EACCES",
  IsADirectory: "EISDIR",
  NotADirectory: "ENOTDIR",
  FilesystemLoop: "ELOOP",
  NotSupported: "ENOTSUP",
  InvalidData: "EINVAL",
};

/** Numbers of <errno.h> in WASI, which Emscripten uses. */
const ERRNO = {
  __proto__: null,
  EACCES: 2,
  EEXIST: 20,
  EINVAL: 28,
  EIO: 29,
  EISDIR: 31,
  ELOOP: 32,
  ENAMETOOLONG: 37,
  ENOENT: 44,
  ENOSPC: 51,
  ENOTDIR: 54,
  ENOTEMPTY: 55,
  EPERM: 63,
  EROFS: 69,
  EXDEV: 75,
  ENOTSUP: 138,
};

/** What `op_fs_lstat_sync` writes: pairs of 32 bits, the lower first. */
const answer = new Uint32Array(64);
const u64 = (offset) => answer[offset] + answer[offset + 1] * 2 ** 32;
const date = (offset) => answer[offset] === 0 ? null : new Date(u64(offset + 2));

/** Deno's own reader of these looks for the global `Deno`, which Python must never see. */
function lstat(path) {
  op_fs_lstat_sync(path, answer);
  return {
    isDirectory: answer[2] !== 0,
    isSymlink: answer[4] !== 0,
    size: u64(6),
    mtime: date(8),
    atime: date(12),
    ctime: date(20),
    mode: answer[30],
  };
}

export function mountFileSystem(FS, deno) {

  /** Runs an operation and tells its error as C would. */
  const errno = (operation) => {
    try {
      return operation();
    } catch (error) {
      if (error instanceof FS.ErrnoError) throw error;
      throw new FS.ErrnoError(ERRNO[error.code] ?? ERRNO[CODES[error.name]] ?? ERRNO.EIO);
    }
  };

  const pathOf = (node) => {
    const parts = [];
    for (; node.parent !== node; node = node.parent) parts.unshift(node.name);
    return [node.mount.opts.root, ...parts].join("/");
  };
  const child = (parent, name) => `${pathOf(parent)}/${name}`;

  const modeOf = (info) =>
    (info.isSymlink ? S_IFLNK : info.isDirectory ? S_IFDIR : S_IFREG) | ((info.mode ?? 0o777) & ~S_IFMT);

  const createNode = (parent, name, mode) => {
    const node = FS.createNode(parent, name, mode);
    node.node_ops = nodeOperations;
    node.stream_ops = streamOperations;
    return node;
  };

  const nodeOperations = {
    getattr: (node) =>
      errno(() => {
        const info = lstat(pathOf(node));
        return {
          dev: 1,
          ino: node.id,
          mode: modeOf(info),
          nlink: 1,
          uid: 0,
          gid: 0,
          rdev: 0,
          size: info.size,
          atime: info.atime ?? info.mtime ?? new Date(0),
          mtime: info.mtime ?? new Date(0),
          ctime: info.ctime ?? info.mtime ?? new Date(0),
          blksize: 4096,
          blocks: Math.ceil(info.size / 512),
        };
      }),
    setattr: (node, attributes) =>
      errno(() => {
        const path = pathOf(node);
        if (attributes.mode !== undefined) {
          deno.chmodSync(path, attributes.mode & 0o7777);
          node.mode = attributes.mode;
        }
        const { atime, mtime } = attributes;
        if (atime !== undefined || mtime !== undefined) {
          deno.utimeSync(path, (atime ?? mtime) / 1000, (mtime ?? atime) / 1000);
        }
        if (attributes.size !== undefined) deno.truncateSync(path, attributes.size);
      }),
    lookup: (parent, name) =>
      errno(() => createNode(parent, name, modeOf(lstat(child(parent, name))))),
    mknod: (parent, name, mode) =>
      errno(() => {
        const path = child(parent, name);
        if ((mode & S_IFMT) === S_IFDIR) deno.mkdirSync(path, { mode: mode & 0o777 });
        else deno.openSync(path, { write: true, createNew: true, mode: mode & 0o777 }).close();
        return createNode(parent, name, mode);
      }),
    rename: (node, parent, name) =>
      errno(() => {
        deno.renameSync(pathOf(node), child(parent, name));
        node.name = name;
      }),
    unlink: (parent, name) => errno(() => deno.removeSync(child(parent, name))),
    rmdir: (parent, name) => errno(() => deno.removeSync(child(parent, name))),
    readdir: (node) => errno(() => [".", "..", ...Array.from(deno.readDirSync(pathOf(node)), (e) => e.name)]),
    symlink: (parent, name, target) => errno(() => deno.symlinkSync(target, child(parent, name))),
    readlink: (node) => errno(() => deno.readLinkSync(pathOf(node))),
  };

  const streamOperations = {
    open: (stream) =>
      errno(() => {
        if (FS.isDir(stream.node.mode)) return;
        const { flags } = stream;
        const write = (flags & O_ACCMODE) === O_WRONLY || (flags & O_ACCMODE) === O_RDWR;
        stream.file = deno.openSync(pathOf(stream.node), {
          read: (flags & O_ACCMODE) !== O_WRONLY,
          write,
          append: write && (flags & O_APPEND) !== 0,
          truncate: write && (flags & O_TRUNC) !== 0,
          create: write && (flags & O_CREAT) !== 0 && (flags & O_EXCL) === 0,
        });
      }),
    close: (stream) => errno(() => stream.file?.close()),
    read: (stream, buffer, offset, length, position) =>
      errno(() => {
        if (length === 0) return 0;
        stream.file.seekSync(position, 0);
        // The buffer is the memory of WebAssembly, which Deno does not take.
        const bytes = new Uint8Array(length);
        const count = stream.file.readSync(bytes) ?? 0;
        buffer.set(bytes.subarray(0, count), offset);
        return count;
      }),
    write: (stream, buffer, offset, length, position) =>
      errno(() => {
        if ((stream.flags & O_APPEND) === 0) stream.file.seekSync(position, 0);
        const bytes = new Uint8Array(buffer.slice(offset, offset + length));
        let count = 0;
        while (count < length) count += stream.file.writeSync(bytes.subarray(count));
        return count;
      }),
    llseek: (stream, offset, whence) => {
      let position = offset;
      if (whence === SEEK_CUR) position += stream.position;
      // Each reading and writing seeks anyway.
      if (whence === SEEK_END) position += errno(() => stream.file.seekSync(0, SEEK_END));
      if (position < 0) throw new FS.ErrnoError(ERRNO.EINVAL);
      return position;
    },
    mmap: () => {
      throw new FS.ErrnoError(ERRNO.ENOTSUP);
    },
  };

  return { mount: (mount) => createNode(null, "/", S_IFDIR | 0o777) };
}
