/**
 * Chat: rooms over WebSockets, and a page for them. Open /apps/chat/ in two windows.
 *
 * A client connects to `ws?room=ROOM&name=NAME` and sends plain text. It gets JSON, one object a
 * message: {"type": "joined" | "left", "name", "people"} and {"type": "message", "name", "text"}.
 * A room exists as long as somebody is in it.
 */

interface Member {
  name: string;
  socket: WebSocket;
}

const MAX_NAME = 40;
const MAX_TEXT = 2_000;

const page = await Deno.readTextFile(new URL("./index.html", import.meta.url));
const rooms = new Map<string, Set<Member>>();

function tell(members: Iterable<Member>, message: Record<string, unknown>) {
  const text = JSON.stringify(message);
  for (const { socket } of members) {
    if (socket.readyState === WebSocket.OPEN) socket.send(text);
  }
}

function namesOf(members: Iterable<Member>): string[] {
  return Array.from(members, ({ name }) => name).sort();
}

function join(room: string, member: Member) {
  const members = rooms.get(room) ?? new Set();
  rooms.set(room, members.add(member));
  tell(members, { type: "joined", name: member.name, people: namesOf(members) });
}

function leave(room: string, member: Member) {
  const members = rooms.get(room);
  if (!members?.delete(member)) return;
  if (members.size === 0) rooms.delete(room);
  tell(members, { type: "left", name: member.name, people: namesOf(members) });
}

function connect(request: Request, query: URLSearchParams): Response {
  if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") {
    return new Response("This address speaks WebSocket.", {
      status: 426,
      headers: { connection: "upgrade", upgrade: "websocket" },
    });
  }
  const name = query.get("name")?.trim().slice(0, MAX_NAME);
  const room = query.get("room")?.trim().slice(0, MAX_NAME);
  if (!name || !room) return new Response("room and name are needed", { status: 400 });

  const { socket, response } = Deno.upgradeWebSocket(request);
  const member = { name, socket };
  socket.onopen = () => join(room, member);
  socket.onmessage = ({ data }) => {
    if (typeof data !== "string" || data.length > MAX_TEXT) {
      socket.close(1009, `a message is text of at most ${MAX_TEXT} characters`);
      return;
    }
    tell(rooms.get(room) ?? [], { type: "message", name, text: data });
  };
  socket.onclose = () => leave(room, member);
  return response;
}

Deno.serve((request) => {
  const { pathname, searchParams } = new URL(request.url);
  switch (pathname) {
    case "/":
      return new Response(page, { headers: { "content-type": "text/html; charset=utf-8" } });
    case "/ws":
      return connect(request, searchParams);
    default:
      return new Response("Not found", { status: 404 });
  }
});
