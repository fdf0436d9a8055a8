// One channel as a position that moves over its log: history first, then everything after it, with no gap and no repeat.

const FIELDS = 'channelId sequence cursor author content lane provider tokenCount timestamp';

const HISTORY = `query History($channelId: ID!, $before: Cursor) {
  channel(id: $channelId) {
    headCursor
    lastSequence
    messages(last: 50, before: $before) {
      edges { node { ${FIELDS} } }
      pageInfo { hasPreviousPage }
    }
  }
}`;

const PLACE = `query Place($id: ID!) { message(id: $id) { ${FIELDS} } }`;

const LIVE = `subscription Live($channelId: ID!, $after: Cursor!) {
  messages(channelId: $channelId, after: $after) { ${FIELDS} }
}`;

const POST = `mutation Post($channelId: ID!, $author: String!, $content: String!, $lane: String, $provider: String,
                            $tokenCount: Int, $idempotencyKey: String) {
  postMessage(channelId: $channelId, author: $author, content: $content, lane: $lane, provider: $provider,
              tokenCount: $tokenCount, idempotencyKey: $idempotencyKey) { ${FIELDS} }
}`;

const RETRY_MS = 1000;
const FAR_MESSAGES = 5_000; // further back than this, a linked message is shown without what came since
const PASSING = new Set(['UNAVAILABLE', 'RATE_LIMITED', 'INTERNAL_SERVER_ERROR']);

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const retryMs = (error) => error.extensions.retryAfterMs ?? RETRY_MS;

export class Channel {
  #socket;
  #view;
  #closed = false;
  #stop = () => {};
  #cursor = null; // of the newest message that arrived, or of where an empty channel stood
  #sequence = null; // of that message; null where any may come next
  #oldest = null;
  #subscribedAt = 0;

  /**
   * `view` is told what happens: history(messages, reachedStart), live(message, subscribedAt), gap(from, to),
   * restart(text), notice(text), refused(error). With `sequence` it begins around that message, else at the newest.
   */
  constructor(socket, id, view, sequence = null) {
    this.#socket = socket;
    this.#view = view;
    this.id = id;
    if (sequence === null) this.#open();
    else this.#openAt(sequence);
  }

  close() {
    this.#closed = true;
    this.#stop();
  }

  /** Shows up to 50 messages before those shown so far. */
  async loadOlder() {
    if (this.#oldest) await this.#page(this.#oldest);
  }

  /** The page forgot the messages before `cursor`, so `loadOlder` starts there. */
  forgetBefore(cursor) {
    this.#oldest = cursor;
  }

  /** The stored message; tries through any failure that passes by itself. The key makes that safe. */
  async post(draft) {
    const idempotencyKey = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0'));
    const variables = { ...draft, channelId: this.id, idempotencyKey: idempotencyKey.join('') };
    for (let attempt = 0; ; attempt++) {
      try {
        return (await this.#socket.request(POST, variables)).postMessage;
      } catch (error) {
        if (!PASSING.has(error.code) || (error.code === 'INTERNAL_SERVER_ERROR' && attempt === 3)) throw error;
        await sleep(retryMs(error));
      }
    }
  }

  async #open() {
    let channel = await this.#page(null);
    // The head may have been read after the page: look once more, lest the very first message be passed over.
    if (channel?.lastSequence && !channel.messages.edges.length) channel = await this.#page(null);
    if (!channel) return;
    const newest = channel.messages.edges.at(-1)?.node;
    // The newest message shown is the safe place to go on from. A channel that holds none has only its head to offer.
    this.#cursor = newest?.cursor ?? channel.headCursor;
    this.#sequence = newest?.sequence ?? channel.lastSequence;
    this.#listen();
  }

  /** Shows the message with this number and 49 before it, and then everything since. */
  async #openAt(sequence) {
    const place = (await this.#ask(PLACE, { id: `${this.id}:${sequence}` }))?.message;
    if (this.#closed) return;
    if (!place) {
      this.#view.notice(`Message ${sequence} is not there (any more). This is the channel as it stands now.`);
      await this.#open();
      return;
    }
    const channel = await this.#page(place.cursor);
    if (!channel) return;
    this.#view.live(place, null);
    this.#cursor = place.cursor;
    this.#sequence = place.sequence;
    this.#view.revealed(place.sequence);
    const since = channel.lastSequence - place.sequence;
    if (since <= FAR_MESSAGES) this.#listen();
    else this.#view.far(since);
  }

  /** The answer to a query, however long it takes; null when it was refused for good, or the channel was left. */
  async #ask(query, variables) {
    while (!this.#closed) {
      try {
        return await this.#socket.request(query, variables);
      } catch (error) {
        if (this.#closed) return null;
        if (!PASSING.has(error.code)) {
          this.#view.refused(error);
          return null;
        }
        await sleep(retryMs(error));
      }
    }
    return null;
  }

  async #page(before) {
    while (!this.#closed) {
      try {
        const { channel } = await this.#socket.request(HISTORY, { channelId: this.id, before });
        if (this.#closed) return null;
        const messages = channel.messages.edges.map((edge) => edge.node);
        this.#oldest = messages[0]?.cursor ?? this.#oldest;
        this.#view.history(messages, !channel.messages.pageInfo.hasPreviousPage);
        return channel;
      } catch (error) {
        if (this.#closed) return null;
        if (!PASSING.has(error.code)) {
          if (before && error.code === 'CURSOR_INVALID') this.#restart();
          else this.#view.refused(error);
          return null;
        }
        await sleep(retryMs(error));
      }
    }
    return null;
  }

  #listen() {
    const variables = () => {
      this.#subscribedAt = Date.now();
      return { channelId: this.id, after: this.#cursor };
    };
    this.#stop = this.#socket.subscribe(LIVE, variables, {
      next: ({ messages }) => this.#arrived(messages),
      error: (error) => this.#failed(error),
      complete: () => this.#listenSoon(RETRY_MS),
    });
  }

  async #listenSoon(delayMs) {
    await sleep(delayMs);
    if (!this.#closed) this.#listen();
  }

  #arrived(message) {
    if (this.#sequence !== null) {
      if (message.sequence <= this.#sequence) return;
      if (message.sequence > this.#sequence + 1) this.#view.gap(this.#sequence + 1, message.sequence - 1);
    }
    this.#sequence = message.sequence;
    this.#cursor = message.cursor;
    this.#oldest ??= message.cursor;
    this.#view.live(message, this.#subscribedAt);
  }

  #failed(error) {
    if (error.code === 'CURSOR_INVALID') {
      this.#restart();
    } else if (error.code === 'CURSOR_EXPIRED') {
      this.#cursor = error.extensions.resumeCursor;
      this.#sequence = null;
      this.#view.notice('Some messages were removed by retention before this page could read them. It goes on with the oldest one kept.');
      this.#listen();
    } else if (PASSING.has(error.code)) {
      this.#listenSoon(retryMs(error));
    } else {
      this.#view.refused(error);
    }
  }

  #restart() {
    this.#stop();
    this.#cursor = this.#sequence = this.#oldest = null;
    this.#view.restart('The server no longer knows this position: its log was replaced. This is the channel as it stands now.');
    this.#open();
  }
}
