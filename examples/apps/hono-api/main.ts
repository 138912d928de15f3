/**
 * Notes: a JSON API on Hono. The notes live in memory, so a restart forgets them.
 *
 *   curl -s  $SERVER/apps/hono-api/notes --json '{"title": "Milk", "text": "2 l"}'
 *   curl -s  $SERVER/apps/hono-api/notes
 *   curl -s  $SERVER/apps/hono-api/notes/1
 *   curl -sX DELETE $SERVER/apps/hono-api/notes/1
 *   curl -sN $SERVER/apps/hono-api/events     # what is created and deleted from now on
 */

import { type Context, Hono } from "npm:hono@4";
import { HTTPException } from "npm:hono@4/http-exception";
import { streamSSE } from "npm:hono@4/streaming";

interface Note {
  id: number;
  title: string;
  text: string;
  created: string;
}

type Change = { type: "created" | "deleted"; note: Note };

const MAX_TITLE = 100;
const MAX_TEXT = 10_000;
const KEEP_ALIVE_MS = 15_000;

const notes = new Map<number, Note>();
const listeners = new Set<(change: Change) => void>();
let lastId = 0;

function announce(change: Change) {
  for (const listener of listeners) listener(change);
}

function reject(message: string): never {
  throw new HTTPException(400, { message });
}

/** A member of a body, which must be a text of at most `max` characters. */
function checkText(name: string, value: unknown, max: number): string {
  if (typeof value !== "string") reject(`${name} must be a string`);
  if (value.length > max) reject(`${name} must have at most ${max} characters`);
  return value;
}

/** What a request says of a new note. */
async function noteOf(c: Context): Promise<Pick<Note, "title" | "text">> {
  const body: unknown = await c.req.json().catch(() => reject("the body must be JSON"));
  if (typeof body !== "object" || body === null) reject("the body must be a JSON object");
  const { title = "", text = "" } = body as Record<string, unknown>;
  const note = {
    title: checkText("title", title, MAX_TITLE).trim(),
    text: checkText("text", text, MAX_TEXT),
  };
  if (note.title === "") reject("title must not be empty");
  return note;
}

function find(c: Context): Note {
  const note = notes.get(Number(c.req.param("id")));
  if (note === undefined) throw new HTTPException(404, { message: "no such note" });
  return note;
}

const app = new Hono();

app.get("/notes", (c) => c.json([...notes.values()]));

app.post("/notes", async (c) => {
  const fields = await noteOf(c);
  const note = { id: ++lastId, ...fields, created: new Date().toISOString() };
  notes.set(note.id, note);
  announce({ type: "created", note });
  return c.json(note, 201);
});

app.get("/notes/:id", (c) => c.json(find(c)));

app.delete("/notes/:id", (c) => {
  const note = find(c);
  notes.delete(note.id);
  announce({ type: "deleted", note });
  return c.body(null, 204);
});

app.get("/events", (c) =>
  streamSSE(c, async (stream) => {
    const listener = ({ type, note }: Change) =>
      void stream.writeSSE({ event: type, data: JSON.stringify(note) });
    listeners.add(listener);
    stream.onAbort(() => void listeners.delete(listener));
    while (!stream.aborted) {
      await stream.writeSSE({ event: "ping", data: "" });
      await stream.sleep(KEEP_ALIVE_MS);
    }
  }));

app.notFound((c) => c.json({ error: `no route ${c.req.method} ${c.req.path}` }, 404));

app.onError((error, c) => {
  if (error instanceof HTTPException) return c.json({ error: error.message }, error.status);
  console.error(error);
  return c.json({ error: "internal error" }, 500);
});

Deno.serve(app.fetch);
