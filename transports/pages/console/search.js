// Search in the messages that are loaded. Messages without the text are hidden. Words are marked without changing the
// text.

const HIGHLIGHT = 'found';

export class Search {
  #list;
  #output;
  #words = '';

  constructor(list, output) {
    this.#list = list;
    this.#output = output;
  }

  get active() {
    return this.#words !== '';
  }

  /** Shows only messages in which `text` occurs, or all for the empty string. */
  look(text) {
    this.#words = text.trim().toLocaleLowerCase();
    this.again();
  }

  /** Searches all rows again, after the list has changed. */
  again() {
    const ranges = [];
    let found = 0;
    const rows = [...this.#list.children].filter((row) => row.message);
    for (const row of rows) {
      const hit = this.#matches(row.message);
      row.classList.toggle('missed', !hit);
      if (hit) found += 1;
      if (hit && this.active) ranges.push(...rangesIn(row.querySelector('.body'), this.#words));
    }
    globalThis.CSS?.highlights?.set(HIGHLIGHT, new Highlight(...ranges));
    this.#output.textContent = this.active ? `${found.toLocaleString()} of ${rows.length.toLocaleString()} loaded` : '';
  }

  #matches({ content, author, lane, provider }) {
    return !this.active || [content, author, lane, provider].some((text) => text?.toLocaleLowerCase().includes(this.#words));
  }
}

function rangesIn(root, words) {
  const ranges = [];
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const text = node.data.toLocaleLowerCase();
    if (text.length !== node.data.length) continue; // in lower case the text has another length: mark nothing, since the marks would be in the wrong place
    for (let at = text.indexOf(words); at >= 0; at = text.indexOf(words, at + words.length)) {
      const range = new Range();
      range.setStart(node, at);
      range.setEnd(node, at + words.length);
      ranges.push(range);
    }
  }
  return ranges;
}
