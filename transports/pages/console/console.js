// The console: a channel's history and live messages, a composer, and the state of the connection.

import { messageActions } from './actions.js';
import { Channel } from './channel.js';
import { ChannelList } from './channels.js';
import { Identity } from './identity.js';
import { Search } from './search.js';
import { GraphQLSocket } from './socket.js';
import { Timeline, element, row } from './timeline.js';

const LATENCIES_KEPT = 100;
const by = (id) => document.getElementById(id);
const storage = (name) => {
  try {
    return globalThis[name];
  } catch {
    return {}; // the browser's storage is switched off, so nothing is remembered
  }
};
const remembered = storage('localStorage');
const identity = new Identity(storage('sessionStorage'));
const search = new Search(by('timeline'), by('found'));

const timeline = new Timeline(by('timeline'), by('scroller'), {
  onFollow(unseen) {
    by('newest').hidden = unseen === 0;
    by('newest').textContent = unseen === 1 ? '1 new message ↓' : `${unseen.toLocaleString()} new messages ↓`;
  },
  onForget(cursor) {
    channel.forgetBefore(cursor);
    atStart(false);
  },
  onDraw() {
    if (search.active) search.again();
  },
  actionsFor: messageActions(identity, () => ({ channel, timeline }), problem),
});

// --- the state of the connection -----------------------------------------------------------------------------------------

let connections = 0;
let countdown = 0;

function say(name, text) {
  document.body.dataset.state = name;
  by('state').textContent = text;
  by('retry').hidden = name !== 'waiting';
}

function onState(state) {
  clearInterval(countdown);
  if (state.name === 'connecting') {
    if (connections === 0) say('connecting', 'Connecting…');
    else say('waiting', 'Reconnecting…');
  } else if (state.name === 'ready') {
    say('live', 'Live');
    by('resumed').textContent = String(connections++);
    channels.refresh();
  } else {
    if (state.refused) by('identity').open = true;
    const until = Date.now() + state.delayMs;
    const tell = () => {
      const seconds = Math.ceil((until - Date.now()) / 1000);
      say('waiting', seconds > 1 ? `Disconnected (${state.reason}). Next try in ${seconds} s.` : `Disconnected (${state.reason}). Trying again…`);
    };
    tell();
    countdown = setInterval(tell, 1000);
  }
}

const endpoint = new URL('graphql', location.href);
endpoint.search = endpoint.hash = '';
endpoint.protocol = endpoint.protocol.replace('http', 'ws');
const socket = new GraphQLSocket(endpoint.href, onState, () => (identity.token ? { token: identity.token } : {}));
by('retry').onclick = () => socket.nudge();

// --- delivery latency -----------------------------------------------------------------------------------------------

const latencies = [];
let clockAheadMs = 0; // how much the server's clock is ahead of ours, at least: a delivery cannot take less than 0 ms

function deliveryMark(message, subscribedAt) {
  const now = Date.now();
  const ageMs = now - Date.parse(message.timestamp);
  clockAheadMs = Math.max(clockAheadMs, -ageMs);
  const latencyMs = ageMs + clockAheadMs;
  if (latencyMs > now - subscribedAt) {
    const mark = element('span', 'mark resumed', 'caught up');
    mark.title = 'Posted while this page was not connected';
    return mark;
  }
  latencies.push(latencyMs);
  if (latencies.length > LATENCIES_KEPT) latencies.shift();
  const sorted = latencies.toSorted((one, other) => one - other);
  by('latency').textContent = duration(sorted[sorted.length >> 1]);
  const mark = element('span', 'mark', duration(latencyMs));
  mark.title = 'From its acceptance by the log to this page, by the two clocks';
  return mark;
}

function duration(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

// --- the channel ----------------------------------------------------------------------------------------------------

let channel = null;

function atStart(reached) {
  by('older').hidden = reached;
  by('start').hidden = !reached || timeline.size === 0;
  by('empty').hidden = timeline.size > 0 || by('pending').childElementCount > 0;
}

function shown() {
  by('empty').hidden = true;
}

const view = {
  history(messages, reachedStart) {
    timeline.prepend(messages);
    if (by('position').textContent === '–') position(messages.at(-1)?.sequence ?? 0);
    atStart(reachedStart);
  },
  live(message, subscribedAt) {
    settle(message);
    timeline.add(message, subscribedAt === null ? null : deliveryMark(message, subscribedAt));
    position(message.sequence);
    shown();
  },
  revealed(sequence) {
    requestAnimationFrame(() => requestAnimationFrame(() => timeline.reveal(sequence)));
  },
  far(since) {
    timeline.note(`${since.toLocaleString()} messages follow. They are not loaded here; open the channel to see the newest.`, 'news');
  },
  gap(from, to) {
    timeline.note(from === to ? `Message ${from} did not arrive.` : `Messages ${from} to ${to} did not arrive.`, 'bad');
  },
  shown(sequence) {
    return timeline.message(sequence);
  },
  changed(message) {
    timeline.update(message);
  },
  restart(text) {
    timeline.clear();
    by('position').textContent = '–';
    timeline.note(text, 'news');
  },
  notice(text) {
    timeline.note(text, 'news');
  },
  refused(error) {
    timeline.note(`${error.message} (${error.code})`, 'bad');
  },
};

function position(sequence) {
  by('position').textContent = sequence.toLocaleString();
  channels.looked(sequence);
}

function open(id, sequence = null) {
  channel?.close();
  timeline.clear();
  by('pending').replaceChildren();
  by('position').textContent = '–';
  for (const name of ['older', 'start', 'empty']) by(name).hidden = true;
  by('channel').value = '';
  channels.filter('');
  channels.select(id);
  by('title').textContent = id;
  menu(false);
  showRights(id);
  document.title = `${id} · RAQCOON console`;
  remembered.channel = id;
  channel = new Channel(socket, id, view, sequence);
}

function openFromAddress() {
  const address = new URLSearchParams(location.search);
  const sequence = Number(address.get('message'));
  open(address.get('channel') || remembered.channel || 'general', sequence > 0 ? sequence : null);
}

function go(id) {
  history.pushState(null, '', `?${new URLSearchParams({ channel: id })}`);
  open(id);
}

by('channel-form').onsubmit = (event) => {
  event.preventDefault();
  go(by('channel').value.trim());
  by('content').focus();
};
addEventListener('popstate', openFromAddress);

const channels = new ChannelList(socket, { list: by('channels'), note: by('channels-note'), storage: remembered, open: go });
by('channel').oninput = () => channels.filter(by('channel').value);

function menu(shown) {
  document.body.classList.toggle('choosing', shown);
  by('menu').setAttribute('aria-expanded', String(shown));
}
by('menu').onclick = () => menu(!document.body.classList.contains('choosing'));

const LOAD_ABOVE_PX = 300; // older messages are loaded when the view is this near to the top

by('older').onclick = async () => {
  if (by('older').disabled) return;
  by('older').disabled = true;
  const before = timeline.size;
  await channel.loadOlder();
  by('older').disabled = false;
  // The user may have reached the top again while the page was on its way. Then no scroll event will come.
  if (timeline.size > before) requestAnimationFrame(loadAtTop);
};
// When the user scrolls to the top, older messages are loaded. The observer notices when the view moves without scrolling.
// The event notices when the top is reached again before the observer has looked.
function loadAtTop() {
  if (by('older').hidden || !timeline.size || timeline.following) return;
  const distance = by('scroller').getBoundingClientRect().top - by('older').getBoundingClientRect().bottom;
  if (distance <= LOAD_ABOVE_PX) by('older').click();
}
new IntersectionObserver(loadAtTop, { root: by('scroller'), rootMargin: `${LOAD_ABOVE_PX}px 0px 0px 0px` }).observe(by('older'));
by('scroller').addEventListener('scroll', loadAtTop, { passive: true });

// --- who is asking --------------------------------------------------------------------------------------------------

function showRights(id) {
  const mayPost = identity.may('post', id);
  by('composer').hidden = !mayPost;
  by('read-only').hidden = mayPost;
  const { author } = identity;
  by('author').readOnly = author !== null;
  if (author !== null) by('author').value = author;
  const rows = identity.rights().map(([name, patterns]) => {
    const row = element('div');
    row.append(element('dt', '', name), element('dd', '', patterns));
    return row;
  });
  by('rights').replaceChildren(...rows);
  by('rights').hidden = rows.length === 0;
}

by('token-form').onsubmit = (event) => {
  event.preventDefault();
  identity.token = by('token').value.trim();
  by('token').value = '';
  socket.renew();
  openFromAddress();
};

// --- search, and keys that work everywhere --------------------------------------------------------------------------

by('search').oninput = () => {
  search.look(by('search').value);
  timeline.toNewestIfFollowing();
};

addEventListener('keydown', (event) => {
  const writing = event.target.matches?.('input, textarea');
  if (event.key === '/' && !writing) focus('search');
  else if (event.key.toLowerCase() === 'k' && (event.ctrlKey || event.metaKey)) {
    menu(true);
    focus('channel');
  } else if (event.altKey && (event.key === 'ArrowUp' || event.key === 'ArrowDown')) {
    const id = channels.neighbour(event.key === 'ArrowUp' ? -1 : 1);
    if (id !== null) go(id);
  } else if (event.key === 'Escape') {
    if (by('search').value) {
      by('search').value = '';
      search.look('');
    }
    menu(false);
    by('content').focus();
    return;
  } else return;
  event.preventDefault();

  function focus(id) {
    by(id).focus();
    by(id).select();
  }
});
by('newest').onclick = () => timeline.toNewest();

// --- posting --------------------------------------------------------------------------------------------------------

const unsettled = new Set(); // {author, content, item}: shown before the log has them

/** A message may be delivered before its post is answered. Then the row that was shown for it is removed when it comes. */
function settle(message) {
  for (const post of unsettled) {
    if (post.author !== message.author || post.content !== message.content) continue;
    unsettled.delete(post);
    post.item.remove();
    return;
  }
}

function problem(text) {
  by('problem').textContent = text;
  by('problem').hidden = !text;
}

async function post(draft, optimistic) {
  const target = channel;
  const standIn = { ...draft, item: null };
  if (optimistic) {
    standIn.item = row({ ...draft, sequence: null, timestamp: null });
    standIn.item.querySelector('.when').append(element('span', 'mark', 'on its way'));
    by('pending').append(standIn.item);
    unsettled.add(standIn);
    shown();
    timeline.toNewest();
  }
  try {
    const message = await target.post(draft);
    if (target === channel) timeline.add(message);
    shown();
  } catch (error) {
    problem(`Not posted: ${error.message}`);
    if (!by('content').value) by('content').value = draft.content;
    grow();
  }
  unsettled.delete(standIn);
  standIn.item?.remove();
}

function grow() {
  const { style } = by('content');
  style.height = 'auto';
  style.height = `${by('content').scrollHeight + 2}px`;
}

by('composer').onsubmit = (event) => {
  event.preventDefault();
  problem('');
  const draft = {
    author: by('author').value,
    content: by('content').value,
    lane: by('lane').value || null,
    provider: by('provider').value || null,
    tokenCount: by('tokens').value === '' ? null : by('tokens').valueAsNumber,
  };
  for (const name of ['author', 'lane', 'provider']) remembered[name] = by(name).value;
  by('content').value = '';
  grow();
  post(draft, by('optimistic').checked);
};

by('content').oninput = grow;
by('content').onkeydown = (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  by('composer').requestSubmit();
};

by('author').value = remembered.author ?? `guest-${Math.floor(Math.random() * 9000 + 1000)}`;
by('lane').value = remembered.lane ?? '';
by('provider').value = remembered.provider ?? '';

openFromAddress();
