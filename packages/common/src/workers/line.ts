/**
 * The line between rank 0, which leads, and each of the others: small messages over TCP, beside c10d's tensors. Over it the
 * workers agree before every collective that all have come to it, so none waits in one for somebody who is gone; a socket that
 * closes tells of a death at once.
 */

import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { deserialize, serialize } from 'node:v8';

/** What is sent: a message of either side. */
export type Message =
  | { kind: 'hello'; rank: number; name: string; token: string }
  /** Follower: has come to the meeting of this number. */
  | { kind: 'here'; meeting: number; label: string; value: unknown }
  /** Leader: all have come; what each said, by rank. */
  | { kind: 'all'; meeting: number; values: unknown[] }
  /** Leader: the meeting does not take place. */
  | { kind: 'off'; meeting: number }
  /** Leader: what to do next. */
  | { kind: 'do'; command: unknown }
  /** It cannot go on. */
  | { kind: 'fault'; name: string; message: string }
  /** Leader: the work is over. */
  | { kind: 'end'; code: number };

/** One end of a line. */
export class Line {
  #rest: Buffer = Buffer.alloc(0);

  constructor(
    readonly socket: Socket,
    onMessage: (message: Message) => void,
    onClose: () => void,
  ) {
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 10_000);
    socket.on('error', () => {}); // 'close' follows
    socket.on('close', onClose);
    socket.on('data', (chunk) => {
      this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
      while (this.#rest.length >= 4) {
        const end = 4 + this.#rest.readUInt32LE();
        if (this.#rest.length < end) break;
        const message = deserialize(this.#rest.subarray(4, end)) as Message;
        this.#rest = this.#rest.subarray(end);
        onMessage(message);
      }
    });
  }

  send(message: Message): void {
    if (this.socket.destroyed) return;
    const bytes = serialize(message);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes.length);
    this.socket.write(Buffer.concat([length, bytes]));
  }

  /** Sends what was begun, and closes. */
  async end(): Promise<void> {
    if (this.socket.destroyed) return;
    await new Promise<void>((resolve) => {
      this.socket.on('close', () => resolve());
      setTimeout(resolve, 1000).unref();
      this.socket.end();
    });
  }
}

/** Rank 0's ends: told of each that comes, what it says and when it closes. */
export async function listen(
  host: string,
  token: string,
  on: {
    came: (rank: number, name: string, line: Line) => void;
    heard: (rank: number, message: Message) => void;
    closed: (rank: number) => void;
  },
): Promise<{ server: Server; port: number }> {
  const server = createServer((socket) => {
    let rank: number | undefined;
    const line = new Line(
      socket,
      (message) => {
        if (rank !== undefined) on.heard(rank, message);
        else if (message.kind === 'hello' && message.token === token) {
          rank = message.rank;
          on.came(rank, message.name, line);
        } else socket.destroy(); // somebody else's
      },
      () => rank !== undefined && on.closed(rank),
    );
  }).listen(0, host);
  await once(server, 'listening');
  server.unref();
  return { server, port: (server.address() as { port: number }).port };
}

/** A follower's end. */
export async function dial(
  host: string,
  port: number,
  hello: { rank: number; name: string; token: string },
  onMessage: (message: Message) => void,
  onClose: () => void,
): Promise<Line> {
  const socket = connect({ host, port });
  await once(socket, 'connect');
  const line = new Line(socket, onMessage, onClose);
  line.send({ kind: 'hello', ...hello });
  return line;
}
