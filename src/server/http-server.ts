import { AsyncLocalStorage } from 'node:async_hooks';
import { createServer, type IncomingMessage, type RequestListener, ServerResponse } from 'node:http';
import { Server, type Socket } from 'node:net';
import { listenInherited } from './socket.ts';

/**
 * Milliseconds that an idle connection is kept: longer than any proxy in front does, so that the proxy closes it and no
 * request meets a closing socket (nginx: deploy/nginx.conf; cloud load balancers: 60 s).
 */
export const keepAliveTimeout = 65_000;
/** Milliseconds from the start of a stop until idle connections are closed: nginx has closed its own by then. */
export const idleCloseDelay = 1_000;
/** Milliseconds for a whole request to arrive: less than GRACEFUL_TIMEOUT, or half a request would hold up a stop. */
export const requestTimeout = 15_000;
/** Milliseconds between two looks of Node for connections that are over these limits. */
const connectionsCheckingInterval = 1_000;

export interface HttpServer {
  /** Resolves when connections are accepted. */
  listen(): Promise<void>;
  /** Accepts no more connections. Resolves when the last request was answered and every connection is closed. */
  close(): Promise<void>;
  /**
   * To be called in the code that has thrown what ends this process: answers 500 to the request that it served, or nginx
   * would give that request to another worker, and kill it, too. nginx sends again the others that are in flight.
   */
  answerCrash(): void;
}

/**
 * An HTTP server whose close breaks no request. `workerName` is sent with each answer as X-Worker; `onRequest` is called
 * for each request.
 */
export function createHttpServer(
  handle: RequestListener,
  { workerName, onRequest }: { workerName: string; onRequest: () => void },
): HttpServer {
  const sockets = new Set<Socket>();
  const served = new AsyncLocalStorage<ServerResponse>(); // a microsecond for each request
  let closing = false;

  /** From the stop on, each answer closes its connection. */
  class Answer<Request extends IncomingMessage> extends ServerResponse<Request> {
    override writeHead(...head: never[]): this {
      if (closing) this.shouldKeepAlive = false;
      return super.writeHead(...(head as unknown as [number])); // whichever of its forms
    }
  }

  const server = createServer(
    { ServerResponse: Answer, keepAliveTimeout, requestTimeout, connectionsCheckingInterval },
    (req, res) => {
      res.setHeader('X-Worker', workerName);
      onRequest();
      served.run(res, handle, req, res);
    },
  );
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });

  return {
    listen: () => listenInherited(server),
    answerCrash() {
      const res = served.getStore();
      if (res && !res.headersSent) res.writeHead(500, { Connection: 'close' }).end('Internal Server Error');
    },
    async close() {
      closing = true;
      // http.Server.close() would cut idle connections at once, while a request may be on its way on one of them.
      const closed = new Promise<void>((resolve) => Server.prototype.close.call(server, () => resolve()));
      const timer = setTimeout(() => {
        server.closeIdleConnections();
        // Browsers open connections in advance. Node does not count one without any request as idle.
        for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy();
      }, idleCloseDelay);
      await closed;
      clearTimeout(timer);
    },
  };
}
