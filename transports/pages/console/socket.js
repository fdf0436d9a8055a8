// A graphql-transport-ws client that reconnects without end.
//
// Operations survive a lost connection: an operation that was not answered is sent again on the next connection, and its
// variables are computed again. So a subscription continues after its newest cursor, and a post needs an idempotency key.
// Protocol: PROTOCOL.md of the graphql-ws project.

const ACK_TIMEOUT_MS = 10_000;
const PING_AFTER_MS = 10_000;
const PONG_TIMEOUT_MS = 5_000;
const BACKOFF_FIRST_MS = 300;
const BACKOFF_MAX_MS = 20_000;
const REFUSED = new Set([4401, 4403]); // there is no token, it is bad, it has ended, or access was revoked

/** The errors that the server has sent instead of data. `code` and `extensions` are those of the first error. */
export class OperationError extends Error {
  constructor(errors) {
    super(errors?.[0]?.message ?? 'The server refused this operation.');
    this.extensions = errors?.[0]?.extensions ?? {};
    this.code = this.extensions.code ?? 'INTERNAL_SERVER_ERROR';
  }
}

/** The wait before attempt `attempt` (0, 1, 2 …). It doubles up to a limit, and is random in its upper half. */
function backoffMs(attempt) {
  const ceiling = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** attempt);
  return ceiling * (0.5 + Math.random() / 2);
}

export class GraphQLSocket {
  #url;
  #onState;
  #socket = null;
  #ready = false;
  #attempt = 0;
  #lastId = 0;
  #operations = new Map();
  #parameters;
  #timers = { ack: 0, ping: 0, pong: 0, retry: 0 };

  /**
   * `onState` gets {name: 'connecting' | 'ready' | 'waiting', …}; 'waiting' has `reason`, `delayMs` and `refused`, which is
   * true when the server asks for another token. `parameters()` is the payload of each connection's `connection_init`.
   */
  constructor(url, onState, parameters = () => ({})) {
    this.#url = url;
    this.#onState = onState;
    this.#parameters = parameters;
    addEventListener('online', () => this.nudge());
    document.addEventListener('visibilitychange', () => document.hidden || this.nudge());
    this.#connect();
  }

  /** Runs an operation until the returned function is called, or until `complete` or `error` has ended it. */
  subscribe(query, variables, { next, error, complete }) {
    const id = String(++this.#lastId);
    this.#operations.set(id, { query, variables, next, error, complete });
    if (this.#ready) this.#send({ id, type: 'subscribe', payload: { query, variables: variables() } });
    return () => {
      if (this.#operations.delete(id) && this.#ready) this.#send({ id, type: 'complete' });
    };
  }

  /** The data of a query or mutation, over as many connections as needed. Rejects with an OperationError. */
  request(query, variables) {
    return new Promise((resolve, reject) => {
      this.subscribe(query, () => variables, {
        next: resolve,
        error: reject,
        complete: () => reject(new OperationError()), // has no effect if there was a result
      });
    });
  }

  /** If it waits for the next try, tries at once. If it seems to be connected, checks that the connection is alive. */
  nudge() {
    if (this.#ready) this.#ping();
    else if (!this.#socket) this.#connect();
  }

  /** Leaves the connection and makes a new one at once, for example with other parameters. */
  renew() {
    this.#attempt = 0;
    this.#lost('changing the token');
    this.nudge();
  }

  #connect() {
    clearTimeout(this.#timers.retry);
    this.#onState({ name: 'connecting' });
    const socket = new WebSocket(this.#url, 'graphql-transport-ws');
    this.#socket = socket;
    this.#timers.ack = setTimeout(() => this.#lost('no answer'), ACK_TIMEOUT_MS);
    socket.onopen = () => this.#send({ type: 'connection_init', payload: this.#parameters() });
    socket.onmessage = (event) => this.#receive(JSON.parse(event.data));
    socket.onclose = (event) => {
      this.#lost(event.reason || (event.code === 1006 ? 'connection lost' : `closed, ${event.code}`), REFUSED.has(event.code));
    };
  }

  #receive(frame) {
    clearTimeout(this.#timers.pong);
    clearTimeout(this.#timers.ping);
    if (this.#ready) this.#timers.ping = setTimeout(() => this.#ping(), PING_AFTER_MS);
    const operation = this.#operations.get(frame.id);
    switch (frame.type) {
      case 'connection_ack':
        return this.#acknowledged();
      case 'ping':
        return this.#send({ type: 'pong' });
      case 'next':
        if (frame.payload.errors?.length) {
          this.#operations.delete(frame.id);
          return operation?.error(new OperationError(frame.payload.errors));
        }
        return operation?.next(frame.payload.data);
      case 'error':
        this.#operations.delete(frame.id);
        return operation?.error(new OperationError(frame.payload));
      case 'complete':
        this.#operations.delete(frame.id);
        return operation?.complete();
    }
  }

  #acknowledged() {
    clearTimeout(this.#timers.ack);
    this.#ready = true;
    this.#attempt = 0;
    this.#timers.ping = setTimeout(() => this.#ping(), PING_AFTER_MS);
    for (const [id, { query, variables }] of this.#operations) {
      this.#send({ id, type: 'subscribe', payload: { query, variables: variables() } });
    }
    this.#onState({ name: 'ready' }); // this comes last, because the callback may begin operations
  }

  #ping() {
    clearTimeout(this.#timers.ping);
    clearTimeout(this.#timers.pong);
    this.#send({ type: 'ping' });
    this.#timers.pong = setTimeout(() => this.#lost('no answer to a ping'), PONG_TIMEOUT_MS);
  }

  /** Leaves the connection without waiting for its close, which takes minutes if the network is down. */
  #lost(reason, refused = false) {
    const socket = this.#socket;
    if (!socket) return;
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
    this.#socket = null;
    this.#ready = false;
    const delayMs = backoffMs(this.#attempt++);
    this.#timers.retry = setTimeout(() => this.#connect(), delayMs);
    this.#onState({ name: 'waiting', reason, delayMs, refused });
  }

  #send(frame) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(frame));
  }
}
