// Our own stand-in for a module of Deno's old standard library: see ../README.md.

export interface ConnInfo {
  readonly localAddr: Deno.Addr;
  readonly remoteAddr: Deno.Addr;
}

export type Handler = (request: Request, connInfo: ConnInfo) => Response | Promise<Response>;

export interface ServeInit {
  port?: number;
  hostname?: string;
  onError?: (error: unknown) => Response | Promise<Response>;
  onListen?: (address: { hostname: string; port: number }) => void;
}

// The types of Deno 2 no longer have it; the runtime does.
interface RequestEvent {
  request: Request;
  respondWith(response: Response): Promise<void>;
}
const { serveHttp } = Deno as unknown as {
  serveHttp(connection: Deno.Conn): AsyncIterable<RequestEvent>;
};

function reportError(error: unknown): Response {
  console.error(error);
  return new Response("Internal Server Error", { status: 500 });
}

export async function serve(handler: Handler, options: ServeInit = {}): Promise<void> {
  const { port = 8000, hostname = "0.0.0.0", onError = reportError } = options;
  const listener = Deno.listen({ port, hostname, transport: "tcp" });
  const address = { hostname, port: listener.addr.port };
  if (options.onListen) {
    options.onListen(address);
  } else {
    const shown = hostname === "0.0.0.0" ? "localhost" : hostname;
    console.log(`Listening on http://${shown}:${address.port}/`);
  }

  const answer = async (event: RequestEvent, info: ConnInfo) => {
    const response = await Promise.resolve(event.request)
      .then((request) => handler(request, info))
      .catch(onError);
    // A client that is gone fails this; the connection then ends its iteration by itself.
    await event.respondWith(response).catch(() => {});
  };
  const converse = async (connection: Deno.Conn) => {
    const { localAddr, remoteAddr } = connection;
    for await (const event of serveHttp(connection)) {
      void answer(event, { localAddr, remoteAddr });
    }
  };
  for await (const connection of listener) converse(connection).catch(() => {});
}
