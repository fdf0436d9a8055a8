// One channel: two positions that move over its two logs. One is the log of its messages: first the history, and then
// everything after it, without a gap and without repeats. The other is the log of their changes.

import { applyChange, sequenceOf } from './changes.js';

const FIELDS = 'id channelId sequence cursor author content lane provider tokenCount timestamp revision complete editedAt erasedAt';

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

const CHANGES_CURSOR = 'query ChangesCursor($channelId: ID!) { channel(id: $channelId) { changesCursor } }';

const CHANGES = `subscription Changes($channelId: ID!, $after: Cursor!) {
  changes(channelId: $channelId, after: $after) { cursor messageId kind revision piece content timestamp }
}`;

const EDIT = `mutation Edit($id: ID!, $content: String!, $revision: Int!) {
  editMessage(id: $id, content: $content, revision: $revision) { ${FIELDS} }
}`;

const ERASE = `mutation Erase($id: ID!) { eraseMessage(id: $id) { ${FIELDS} } }`;

const STOP = `mutation Stop($id: ID!) { completeMessage(id: $id) { ${FIELDS} } }`;

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
const EARLY_MAX = 1_000; // for how many messages that are not shown changes are kept
const FAR_MESSAGES = 5_000; // a linked message that is older than this is shown without all messages that came after it
const PASSING = new Set(['UNAVAILABLE', 'RATE_LIMITED', 'INTERNAL_SERVER_ERROR']);

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const retryMs = (error) => error.extensions.retryAfterMs ?? RETRY_MS;

export class Channel {
  #socket;
  #view;
  #closed = false;
  #stop = () => {};
  #cursor = null; // of the newest message that arrived, or the head of a channel that was empty
  #sequence = null; // of that message; null if the next one may have any sequence
  #oldest = null;
  #subscribedAt = 0;
  #stopChanges = () => {};
  #changesCursor = null;
  #early = new Map(); // by sequence: changes of messages that have not arrived yet

  /**
   * `view` is told what happens: history(messages, reachedStart), live(message, subscribedAt), gap(from, to),
   * restart(text), notice(text), refused(error), changed(message). view.shown(sequence) returns the message that is shown,
   * or undefined. With `sequence` the channel begins around that message, otherwise at the newest one.
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
    this.#stopChanges();
  }

  /** Shows up to 50 messages before those that are shown. */
  async loadOlder() {
    if (this.#oldest) await this.#page(this.#oldest);
  }

  /** The page has dropped the messages before `cursor`, so `loadOlder` starts there. */
  forgetBefore(cursor) {
    this.#oldest = cursor;
  }

  /** Replaces the content of a message, unless somebody else has changed it first. */
  async edit(message, content) {
    const { id, revision } = message;
    const { editMessage } = await this.#socket.request(EDIT, { id, revision, content });
    this.#take(editMessage);
  }

  /** Erases a message for good. */
  async erase({ id }) {
    const { eraseMessage } = await this.#socket.request(ERASE, { id });
    this.#take(eraseMessage);
  }

  /** Completes a message, so that it cannot grow any more. */
  async stop({ id }) {
    const { completeMessage } = await this.#socket.request(STOP, { id });
    this.#take(completeMessage);
  }

  /** Posts, and returns the stored message. Tries again after failures that do not last; the key makes that safe. */
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

  /** Subscribes to changes. This comes before any message is read, so that no later change is missed. */
  async #beginChanges() {
    const answer = await this.#ask(CHANGES_CURSOR, { channelId: this.id });
    if (!answer || this.#closed) return false;
    this.#changesCursor = answer.channel.changesCursor;
    return true;
  }

  #listenToChanges() {
    const variables = () => ({ channelId: this.id, after: this.#changesCursor });
    const again = async (delayMs) => {
      await sleep(delayMs);
      if (!this.#closed) this.#listenToChanges();
    };
    this.#stopChanges = this.#socket.subscribe(CHANGES, variables, {
      next: ({ changes }) => this.#changed(changes),
      error: (error) => {
        if (PASSING.has(error.code)) again(retryMs(error));
        else if (error.code === 'CURSOR_EXPIRED') this.#restart('Some changes were removed by retention before this page could read them. This is the channel as it stands now.');
        else if (error.code !== 'CURSOR_INVALID') this.#view.refused(error); // the subscription of the messages starts again by itself
      },
      complete: () => again(RETRY_MS),
    });
  }

  #changed(change) {
    this.#changesCursor = change.cursor;
    const sequence = sequenceOf(change);
    const message = this.#view.shown(sequence);
    if (message) this.#apply(message, change);
    else {
      // The message may be on its way, in a page or live, in its form before this change.
      this.#early.set(sequence, [...(this.#early.get(sequence) ?? []), change]);
      if (this.#early.size > EARLY_MAX) this.#early.delete(this.#early.keys().next().value);
    }
  }

  #apply(message, change) {
    const after = applyChange(message, change);
    if (after === null || change.kind === 'ERASED') this.#readAnew(message.id); // an erasure may remove the author's name too
    if (after !== null) this.#take(after);
  }

  async #readAnew(id) {
    const answer = await this.#ask(PLACE, { id });
    if (answer?.message && !this.#closed) this.#take(answer.message);
  }

  /** Updates a message that is shown already. It is never replaced by an older state. */
  #take(message) {
    const shown = this.#view.shown(message.sequence);
    if (shown && message.revision >= shown.revision) this.#view.changed(message);
  }

  async #open() {
    if (!(await this.#beginChanges())) return;
    let channel = await this.#page(null);
    // The head may have been read after the page. So look once more, or the very first message could be missed.
    if (channel?.lastSequence && !channel.messages.edges.length) channel = await this.#page(null);
    if (!channel) return;
    const newest = channel.messages.edges.at(-1)?.node;
    // It is safe to continue after the newest message that is shown. In a channel without messages, only the head is left.
    this.#cursor = newest?.cursor ?? channel.headCursor;
    this.#sequence = newest?.sequence ?? channel.lastSequence;
    this.#listen();
    this.#listenToChanges();
  }

  /** Shows the message with this sequence and 49 before it, and then everything after it. */
  async #openAt(sequence) {
    if (!(await this.#beginChanges())) return;
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
    this.#listenToChanges();
    if (since <= FAR_MESSAGES) this.#listen();
    else this.#view.far(since);
  }

  /** The answer to a query, however long it takes. Null if it was refused for good, or if the channel was left. */
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
        messages.forEach((message) => this.#catchUp(message));
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
    this.#catchUp(message);
  }

  /** A message has just been shown: applies its changes that came before it. */
  #catchUp({ sequence }) {
    for (const change of this.#early.get(sequence) ?? []) this.#apply(this.#view.shown(sequence), change);
    this.#early.delete(sequence);
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

  #restart(text = 'The server no longer knows this position: its log was replaced. This is the channel as it stands now.') {
    this.#stop();
    this.#stopChanges();
    this.#early.clear();
    this.#cursor = this.#sequence = this.#oldest = null;
    this.#view.restart(text);
    this.#open();
  }
}
