// What a user can do to a message that is shown: stop it, edit it, erase it.

import { element } from './timeline.js';

/**
 * Makes `actionsFor(message, row)`: the buttons that the token of the identity allows. `current()` returns the channel and
 * the timeline that are shown. `problem(text)` shows what went wrong.
 */
export function messageActions(identity, current, problem) {
  /** Does something to a message. If it is refused, shows why. */
  async function attempt(something) {
    problem('');
    try {
      await something();
      return true;
    } catch (error) {
      problem(`Not done: ${error.message}`);
      return false;
    }
  }

  function erase(target, row) {
    if (target.dataset.sure) {
      attempt(() => current().channel.erase(row.message));
      return;
    }
    // A second click in the same place is needed, because an erased message cannot be restored.
    target.dataset.sure = 'yes';
    target.textContent = 'Erase for good?';
    target.onblur = () => queueMicrotask(() => current().timeline.redraw(row)); // not while it is being replaced
  }

  function edit(row) {
    const { message } = row;
    const form = element('form', 'editor');
    const text = element('textarea');
    text.value = message.content;
    text.rows = Math.min(12, message.content.split('\n').length + 1);
    text.dir = 'auto';
    text.setAttribute('aria-label', `New content of message ${message.sequence}`);
    const save = element('button', '', 'Save');
    const done = () => current().timeline.redraw(row);
    const cancel = button('cancel', 'Cancel', 'Leave it as it is', done);
    form.append(text, save, cancel);
    form.onsubmit = async (event) => {
      event.preventDefault();
      save.disabled = true;
      const saved = await attempt(() => current().channel.edit(message, text.value));
      save.disabled = false;
      if (saved) done();
    };
    text.onkeydown = (event) => {
      if (event.key === 'Escape') {
        event.stopPropagation();
        done();
      } else if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        form.requestSubmit();
      }
    };
    current().timeline.redraw(row, form);
    text.focus();
  }

  return function actionsFor(message, row) {
    const { channel } = current();
    const { id } = channel;
    if (message.erasedAt || !message.id) return [];
    const own = identity.claims === null || identity.claims.post_as === '*' || identity.claims.sub === message.author;
    const mayChange = identity.may('manage', id) || (own && identity.may('post', id));
    const actions = [];
    if (!message.complete && identity.may('post', id)) {
      actions.push(button('stop', 'Stop', 'Let this message grow no more', () => attempt(() => channel.stop(row.message))));
    }
    if (mayChange && message.complete) actions.push(button('edit', 'Edit', 'Give this message another content', () => edit(row)));
    if (mayChange) actions.push(button('erase', 'Erase', 'Take its content away, for good', (event) => erase(event.target, row)));
    return actions;
  };
}

function button(action, text, title, onClick) {
  const made = element('button', '', text);
  made.type = 'button';
  made.dataset.action = action;
  made.title = title;
  made.onclick = onClick;
  return made;
}
