// The list of channels: what is new in each since this browser looked at it.

import { element } from './timeline.js';

const QUERY = `query Channels($after: String) {
  channels(first: 200, after: $after) { edges { node { id lastSequence } } pageInfo { hasNextPage endCursor } }
}`;
const REFRESH_MS = 5_000;
const LISTED_MAX = 2_000;
const REMEMBERED_MAX = 1_000;

export class ChannelList {
  #socket;
  #list;
  #note;
  #storage;
  #seen; // by channel id: the newest sequence that was shown here; the channel that was looked at last comes last
  #channels = [];
  #current = null;
  #filter = '';
  #timer = 0;
  #loading = false;

  /** `open(id)` is called when somebody chooses a channel. `storage` is like localStorage, and remembers what was seen. */
  constructor(socket, { list, note, storage, open }) {
    this.#socket = socket;
    this.#list = list;
    this.#note = note;
    this.#storage = storage;
    this.#seen = new Map(recall(storage.seen));
    list.addEventListener('click', (event) => {
      const link = event.target.closest('a');
      if (!link || event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
      event.preventDefault();
      open(link.dataset.channel);
    });
    document.addEventListener('visibilitychange', () => document.hidden || this.refresh());
  }

  /** Asks for the channels now, and then every few seconds while the page is visible. */
  async refresh() {
    clearTimeout(this.#timer);
    if (this.#loading) return;
    this.#loading = true;
    try {
      this.#channels = await this.#load();
      this.#draw();
    } catch {
      // The list is only a help: without it, a channel can still be opened by its name.
    } finally {
      this.#loading = false;
    }
    if (!document.hidden) this.#timer = setTimeout(() => this.refresh(), REFRESH_MS);
  }

  async #load() {
    const channels = [];
    let after = null;
    do {
      const page = (await this.#socket.request(QUERY, { after })).channels;
      channels.push(...page.edges.map((edge) => edge.node));
      after = page.pageInfo.hasNextPage ? page.pageInfo.endCursor : null;
    } while (after !== null && channels.length < LISTED_MAX);
    this.#note.textContent = after === null ? '' : `The first ${channels.length.toLocaleString()} channels. Others can be opened by name.`;
    this.#note.hidden = after === null;
    return channels;
  }

  /** The channel that is shown now. */
  select(id) {
    this.#current = id;
    this.#draw();
  }

  /** The current channel was shown up to `sequence`. */
  looked(sequence) {
    if (this.#current === null || sequence <= (this.#seen.get(this.#current) ?? -1)) return;
    this.#seen.delete(this.#current);
    this.#seen.set(this.#current, sequence);
    while (this.#seen.size > REMEMBERED_MAX) this.#seen.delete(this.#seen.keys().next().value);
    this.#storage.seen = JSON.stringify([...this.#seen]);
    const known = this.#channels.find((channel) => channel.id === this.#current);
    if (known) known.lastSequence = Math.max(known.lastSequence, sequence);
  }

  /** Shows only channels whose names contain `text`. */
  filter(text) {
    this.#filter = text.trim().toLocaleLowerCase();
    this.#draw();
  }

  /** The id of the channel that is `step` places after the current one in the list. Null at the end of the list. */
  neighbour(step) {
    const links = [...this.#list.querySelectorAll('a')];
    const at = links.findIndex((link) => link.dataset.channel === this.#current);
    return links[at + step]?.dataset.channel ?? null;
  }

  #draw() {
    const shown = this.#channels.filter(({ id }) => id.toLocaleLowerCase().includes(this.#filter));
    if (this.#current !== null && !this.#filter && !shown.some(({ id }) => id === this.#current)) {
      shown.push({ id: this.#current, lastSequence: 0 });
    }
    const focused = document.activeElement?.closest?.('#channels a')?.dataset.channel;
    this.#list.replaceChildren(...shown.map((channel) => this.#item(channel)));
    if (focused !== undefined) this.#list.querySelector(`a[data-channel="${CSS.escape(focused)}"]`)?.focus();
  }

  #item({ id, lastSequence }) {
    const item = element('li');
    const link = element('a');
    link.href = `?${new URLSearchParams({ channel: id })}`;
    link.dataset.channel = id;
    link.append(element('bdi', '', id));
    const current = id === this.#current;
    if (current) link.setAttribute('aria-current', 'page');
    const unseen = current ? 0 : lastSequence - (this.#seen.get(id) ?? 0);
    if (unseen > 0) {
      const badge = element('span', 'unseen-count', unseen > 999 ? '999+' : String(unseen));
      badge.title = `${unseen.toLocaleString()} new since you looked`;
      badge.setAttribute('aria-label', `, ${unseen.toLocaleString()} new`);
      badge.setAttribute('role', 'img');
      link.append(badge);
    }
    item.append(link);
    return item;
  }
}

function recall(text) {
  try {
    return JSON.parse(text ?? '[]');
  } catch {
    return [];
  }
}
