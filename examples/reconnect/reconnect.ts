/** A graphql-ws client that goes on for ever, and subscriptions that go on where they left off. See README.md. */

import { createClient, type Client, type FormattedExecutionResult, type SubscribePayload } from 'graphql-ws';

export type ConnectionState = 'connecting' | 'live' | 'waiting';

const PING_AFTER_MS = 10_000;
const PONG_TIMEOUT_MS = 5_000;
const BACKOFF_FIRST_MS = 300;
const BACKOFF_MAX_MS = 20_000;
const RETRY_MS = 1_000;
/** Errors that pass by themselves. A token that ends is one: the next connection asks `connectionParams` for a fresh one. */
const PASSING = new Set(['UNAVAILABLE', 'RATE_LIMITED', 'UNAUTHENTICATED']);

/** What the server says about an error, for programs. */
interface Extensions {
  code?: string;
  retryAfterMs?: number;
  resumeCursor?: string;
}

/** What a subscription delivers: the entries of a log, each with its position. */
interface Delivery {
  messages?: { sequence: number; cursor: string } | null;
  changes?: { sequence: number; cursor: string } | null;
}

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** A client with endless, jittered retries that notices a dead connection. `onState` feeds a badge. */
export function createReconnectingClient(url: string, onState: (state: ConnectionState) => void): Client {
  let pongTimeout: ReturnType<typeof setTimeout> | undefined;
  const client = createClient({
    url,
    retryAttempts: Infinity,
    shouldRetry: () => true, // a refused connection is an error, not a close, and by default ends everything
    retryWait: (attempt) => sleep(Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** attempt) * (0.5 + Math.random() / 2)),
    keepAlive: PING_AFTER_MS,
    // connectionParams: async () => ({ token: await freshToken() }), // asked again for each connection
    on: {
      connecting: () => onState('connecting'),
      connected: () => onState('live'),
      closed: () => {
        clearTimeout(pongTimeout);
        onState('waiting');
      },
      ping: (received) => {
        if (received) return;
        clearTimeout(pongTimeout);
        pongTimeout = setTimeout(() => client.terminate(), PONG_TIMEOUT_MS); // terminate: a close frame would not arrive
      },
      pong: (received) => {
        if (received) clearTimeout(pongTimeout);
      },
    },
  });
  return resuming(client);
}

/** The client, but its operations are repeated until they are answered, and subscriptions renew their `after`. */
export function resuming(client: Client): Client {
  const subscribe = ((payload, sink) => {
    const variables = payload.variables ?? {};
    let after = variables.after;
    let newest = 0;
    let stopped = false;
    let stop = () => {};

    // graphql-ws sends this object anew on each connection, and so reads the getter anew.
    const renewed: SubscribePayload = {
      ...payload,
      variables: 'after' in variables ? { ...variables, get after() { return after; } } : variables,
    };

    /** Whether this error passes by itself; if so the operation starts again in a while. */
    function startAgain(extensions: Extensions): boolean {
      if (extensions.code === 'CURSOR_EXPIRED' && extensions.resumeCursor) after = extensions.resumeCursor;
      else if (!PASSING.has(extensions.code ?? '')) return false;
      stop();
      void sleep(extensions.retryAfterMs ?? RETRY_MS).then(start);
      return true;
    }

    function start() {
      if (stopped) return;
      let replaced = false; // this attempt was given up for another: what it still says is of no interest
      stop = client.subscribe<Delivery>(renewed, {
        next(result) {
          if (replaced) return;
          const extensions: Extensions = result.errors?.[0]?.extensions ?? {};
          if ((replaced = startAgain(extensions))) return;
          const entry = 'after' in variables ? (result.data?.messages ?? result.data?.changes) : undefined;
          if (entry) {
            if (entry.sequence <= newest) return;
            newest = entry.sequence;
            after = entry.cursor;
          }
          sink.next(result as FormattedExecutionResult<never, never>);
        },
        error(error) {
          const extensions: Extensions = Array.isArray(error) ? (error[0]?.extensions ?? {}) : {};
          if (!(replaced = startAgain(extensions))) sink.error(error);
        },
        complete() {
          if (!replaced) sink.complete();
        },
      });
    }

    start();
    return () => {
      stopped = true;
      stop();
    };
  }) as Client['subscribe'];
  return { ...client, subscribe };
}
