// Turns what people write into nodes: links, inline code and code blocks are shown as such. Everything else stays text.

const FENCE = /```([^\n`]*)\n([\s\S]*?)(?:\n```(?=\n|$)|$(?![\s\S]))/g;
const INLINE = /`([^`\n]+)`|(\bhttps?:[/]{2}[^\s<>"'`]+)/g;
const TRAILING = /[.,;:!?)\]}]+$/; // these characters belong to the sentence around a link, and not to its address

/** The nodes for `text`. Markup in it has no effect. */
export function nodesOf(text) {
  const nodes = [];
  let at = 0;
  for (const match of text.matchAll(FENCE)) {
    nodes.push(...lineNodes(text.slice(at, match.index).replace(/\n$/, '')), codeBlock(match[1].trim(), match[2]));
    at = match.index + match[0].length;
    if (text[at] === '\n') at += 1;
  }
  nodes.push(...lineNodes(text.slice(at)));
  return nodes;
}

function lineNodes(text) {
  const nodes = [];
  let at = 0;
  for (const match of text.matchAll(INLINE)) {
    const [whole, code, address] = match;
    const shown = address ? address.replace(TRAILING, '') : whole;
    if (match.index > at) nodes.push(document.createTextNode(text.slice(at, match.index)));
    nodes.push(code === undefined ? link(shown) : inlineCode(code));
    at = match.index + shown.length;
  }
  if (at < text.length) nodes.push(document.createTextNode(text.slice(at)));
  return nodes;
}

function link(address) {
  if (!URL.canParse(address)) return document.createTextNode(address);
  const made = document.createElement('a');
  made.href = address;
  made.target = '_blank';
  made.rel = 'noopener noreferrer nofollow';
  made.textContent = address;
  return made;
}

function inlineCode(text) {
  const made = document.createElement('code');
  made.textContent = text;
  return made;
}

function codeBlock(language, text) {
  const block = document.createElement('pre');
  block.tabIndex = 0; // so that long lines can be scrolled with the keyboard
  block.dir = 'ltr';
  if (language) block.dataset.language = language;
  block.append(inlineCode(text));
  return block;
}
