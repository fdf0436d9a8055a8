// The list of messages. Text is added to the page only as text nodes.

import { nodesOf } from './text.js';

const KEPT_ROWS = 5_000; // while the newest messages are in view; "load older" loads again what was dropped
const KEPT_ROWS_READING = 20_000; // while somebody reads older messages
const DRAWN_A_FRAME = 100; // new rows in one frame, so that the page stays usable when thousands come at the same time
const LONG_CHARACTERS = 1_600;
const NAME_HUES = 8;

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const day = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'long' });

export function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function hue(name) {
  let hash = 0;
  for (const character of name) hash = (hash * 31 + character.codePointAt(0)) >>> 0;
  return hash % NAME_HUES;
}

function timeOf(timestamp) {
  const date = new Date(timestamp);
  const time = element('time', '', clock.format(date));
  time.dateTime = timestamp;
  time.title = full.format(date);
  return time;
}

function contentOf(text) {
  const content = element('div', 'content');
  content.dir = 'auto';
  content.append(...nodesOf(text));
  if (text.length < LONG_CHARACTERS) return [content];
  content.classList.add('folded');
  const more = element('button', 'more', `Show all ${text.length.toLocaleString()} characters`);
  more.type = 'button';
  more.onclick = () => {
    content.classList.remove('folded');
    more.remove();
  };
  return [content, more];
}

/** The number of a message, as a link to the message. */
function numberOf({ sequence, channelId }) {
  if (sequence === null) return element('span', 'sequence', '···');
  const link = element('a', 'sequence', sequence);
  link.href = `?${new URLSearchParams({ channel: channelId, message: sequence })}`;
  link.title = 'Link to this message';
  return link;
}

/** One row: number, author and text, time. `sequence` is null as long as the log has not answered. */
export function row(message) {
  const item = element('li', 'message');
  item.append(numberOf(message), bodyOf(message));
  return item;
}

/** The rest of a row besides its number. `actions` are the buttons for the message. */
function bodyOf(message, actions = []) {
  const head = element('p', 'head');
  const author = element('bdi', 'author', message.author);
  author.dataset.hue = hue(message.author);
  head.append(author);
  for (const [kind, text] of [['lane', message.lane], ['provider', message.provider]]) {
    if (!text) continue;
    const chip = element('bdi', `chip ${kind}`, text);
    chip.title = kind;
    head.append(chip);
  }
  if (typeof message.tokenCount === 'number') head.append(element('span', 'tokens', `${message.tokenCount.toLocaleString()} tokens`));
  if (message.complete === false) head.append(element('span', 'growing', 'is being written'));
  if (message.editedAt && !message.erasedAt) {
    const edited = element('span', 'edited', 'edited');
    edited.title = full.format(new Date(message.editedAt));
    head.append(edited);
  }
  if (actions.length) {
    const group = element('span', 'actions');
    group.append(...actions);
    head.append(group);
  }
  const when = element('span', 'when');
  if (message.timestamp) when.append(timeOf(message.timestamp));
  head.append(when);
  const body = element('div', 'body');
  if (message.erasedAt) body.append(head, element('p', 'erased', `Erased, ${full.format(new Date(message.erasedAt))}`));
  else body.append(head, ...contentOf(message.content));
  return body;
}

export class Timeline {
  #list;
  #scroller;
  #onFollow;
  #onForget;
  #rows = new Map(); // rows by sequence
  #first = 0; // sequence of the first row shown
  #last = 0; // sequence of the last row shown
  #waiting = []; // [message, mark] that are not drawn yet
  #frame = false;
  #unseen = 0;
  #top = 0;
  #onDraw;
  #actionsFor;
  #changed = new Set(); // rows whose message has changed since it was drawn

  /**
   * `onFollow(unseen)` gets the number of unread messages below the view. `onForget(cursor)` is called when older rows were
   * dropped, and `onDraw()` when the list has changed. `actionsFor(message, row)` makes the buttons for a message.
   */
  constructor(list, scroller, { onFollow, onForget, onDraw, actionsFor }) {
    this.#list = list;
    this.#scroller = scroller;
    this.#onFollow = onFollow;
    this.#onForget = onForget;
    this.#onDraw = onDraw;
    this.#actionsFor = actionsFor;
    this.following = true;
    scroller.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    // The heights of rows out of view are estimates. When they get their real heights, the end of the list moves.
    const sizes = new ResizeObserver(() => this.toNewestIfFollowing());
    sizes.observe(scroller);
    sizes.observe(list);
  }

  get size() {
    return this.#rows.size;
  }

  clear() {
    this.#list.replaceChildren();
    this.#rows.clear();
    this.#waiting = [];
    this.#first = this.#last = this.#unseen = 0;
    this.following = true;
    this.#onFollow(0);
  }

  /** Adds a page of older messages above the rest, and leaves the view where it is. */
  prepend(messages) {
    const fragment = document.createDocumentFragment();
    for (const message of messages) {
      if (!this.#rows.has(message.sequence)) fragment.append(this.#make(message));
    }
    const below = this.#scroller.scrollHeight - this.#scroller.scrollTop;
    const following = this.#list.firstElementChild;
    this.#list.prepend(fragment);
    this.#markDays(this.#list.firstElementChild, following);
    if (messages.length) this.#first = messages[0].sequence;
    this.#last = Math.max(this.#last, messages.at(-1)?.sequence ?? 0);
    if (this.following) this.toNewest();
    else this.#scroller.scrollTop = this.#scroller.scrollHeight - below;
    this.#onDraw();
  }

  /** Brings a message into view and marks it. False if it is not in the list. */
  reveal(sequence) {
    const item = this.#rows.get(sequence);
    if (!item) return false;
    this.following = false;
    this.#list.querySelector('.revealed')?.classList.remove('revealed');
    item.classList.add('revealed');
    item.scrollIntoView({ block: 'center' });
    item.querySelector('.sequence').focus({ preventScroll: true });
    return true;
  }

  /** Labels each row that is the first of its day, from `first` to `last` inclusive. If `last` is null, to the end. */
  #markDays(first, last) {
    for (let row = first; row; row = row.nextElementSibling) {
      if (row.message) {
        let before = row.previousElementSibling;
        while (before && !before.message) before = before.previousElementSibling;
        const date = new Date(row.message.timestamp);
        const begins = !before || new Date(before.message.timestamp).toDateString() !== date.toDateString();
        if (begins) row.dataset.day = day.format(date);
        else delete row.dataset.day;
      }
      if (row === last) return;
    }
  }

  /** The message with this sequence as it is shown, or will be shown in a moment. Undefined if it is not in the list. */
  message(sequence) {
    return this.#rows.get(sequence)?.message ?? this.#waiting.find(([message]) => message.sequence === sequence)?.[0];
  }

  /** Updates a message that is in the list. */
  update(message) {
    const item = this.#rows.get(message.sequence);
    if (item) {
      item.message = message;
      this.#changed.add(item);
    } else {
      const waiting = this.#waiting.find(([other]) => other.sequence === message.sequence);
      if (waiting) waiting[0] = message;
    }
    this.#drawSoon();
  }

  /** Shows a row normally, or with what `editor` makes in the place of the content. */
  redraw(item, editor = null) {
    const { message } = item;
    const before = item.querySelector('.body');
    const mark = before.querySelector('.mark');
    const body = bodyOf(message, editor ? [] : this.#actionsFor(message, item));
    if (mark) body.querySelector('.when').append(mark);
    if (editor) body.querySelector('.content').replaceWith(editor);
    const focused = before.contains(document.activeElement) && !editor ? document.activeElement.dataset.action : null;
    before.replaceWith(body);
    item.classList.toggle('editing', editor !== null);
    if (focused) body.querySelector(`[data-action="${focused}"]`)?.focus();
  }

  /** Adds a message in its place, once. `mark` is the text of the last column, about its delivery, or null. */
  add(message, mark = null) {
    this.#waiting.push([message, mark]);
    this.#drawSoon();
  }

  #drawSoon() {
    if (this.#frame) return;
    this.#frame = true;
    // The list is drawn once in each frame, however many messages arrive. A hidden page gets no frames.
    if (document.hidden) setTimeout(() => this.#draw(), 100);
    else requestAnimationFrame(() => this.#draw());
  }

  /** A notice between the messages. */
  note(text, className) {
    do this.#draw();
    while (this.#waiting.length); // first draw everything that came before it
    this.#list.append(element('li', `note ${className}`, text));
    this.toNewestIfFollowing();
  }

  toNewest() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.following = true;
    this.#unseen = 0;
    this.#onFollow(0);
  }

  toNewestIfFollowing() {
    if (this.following) this.toNewest();
  }

  #make(message) {
    const item = element('li', 'message');
    item.append(numberOf(message), bodyOf(message, this.#actionsFor(message, item)));
    item.message = message;
    this.#rows.set(message.sequence, item);
    return item;
  }

  #draw() {
    this.#frame = false;
    const fragment = document.createDocumentFragment();
    const end = this.#list.lastElementChild;
    for (const [message, mark] of this.#waiting.splice(0, DRAWN_A_FRAME)) {
      const shown = this.#rows.get(message.sequence);
      const item = shown ?? this.#make(message);
      if (mark && !item.querySelector('.mark')) item.querySelector('.when').append(mark);
      if (shown) continue;
      this.#unseen += 1;
      if (message.sequence > this.#last) {
        this.#last = message.sequence;
        this.#first ||= message.sequence;
        fragment.append(item);
      } else {
        this.#list.append(fragment);
        this.#insert(item);
      }
    }
    for (const item of this.#changed) if (!item.classList.contains('editing')) this.redraw(item);
    this.#changed.clear();
    this.#list.append(fragment);
    this.#markDays(end?.isConnected ? end : this.#list.firstElementChild, null);
    this.#trim();
    if (this.following) this.toNewest();
    else this.#onFollow(this.#unseen);
    this.#onDraw();
    if (this.#waiting.length) this.#drawSoon();
  }

  /** A row has arrived out of order: puts it before the first row with a higher number, searching from the end. */
  #insert(item) {
    let next = null;
    for (let other = this.#list.lastElementChild; other; other = other.previousElementSibling) {
      if (other.message?.sequence < item.message.sequence) break;
      if (other.message) next = other;
    }
    this.#list.insertBefore(item, next);
    this.#markDays(item, next);
  }

  #trim() {
    const limit = this.following ? KEPT_ROWS : KEPT_ROWS_READING;
    if (this.#rows.size <= limit) return;
    while (this.#rows.size > limit) {
      const oldest = this.#list.firstElementChild;
      if (oldest.message) this.#rows.delete(oldest.message.sequence);
      oldest.remove();
    }
    const first = [...this.#list.children].find((item) => item.message);
    this.#first = first.message.sequence;
    this.#markDays(first, first);
    this.#onForget(first.message.cursor);
  }

  #scrolled() {
    const { scrollTop, clientHeight, scrollHeight } = this.#scroller;
    const atEnd = scrollTop + clientHeight >= scrollHeight - 48;
    // Only when the user has scrolled up, the view stays there. When the list has grown below, it does not.
    if (!atEnd && scrollTop < this.#top) this.following = false;
    this.#top = scrollTop;
    if (!atEnd || this.following) return;
    this.following = true;
    this.#unseen = 0;
    this.#onFollow(0);
  }
}
