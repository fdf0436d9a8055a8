// Changes of messages, and the rule for applying them. With it, every client ends with the same text.

/**
 * The message after `change`. If the message has the change already, the message itself. If a change before this one is
 * missing, null: then the message has to be read again.
 */
export function applyChange(message, change) {
  if (change.revision <= message.revision) return message;
  if (change.revision > message.revision + 1) return null;
  const { revision, timestamp } = change;
  switch (change.kind) {
    case 'APPENDED':
      return { ...message, revision, content: message.content + (change.piece ?? '') };
    case 'COMPLETED':
      return { ...message, revision, complete: true };
    case 'EDITED':
      return { ...message, revision, content: change.content ?? '', editedAt: timestamp };
    case 'ERASED':
      return { ...message, revision, content: '', lane: null, provider: null, tokenCount: null, complete: true, erasedAt: timestamp };
    default:
      return null; // this kind of change comes from a later version of the server
  }
}

/** The sequence of the message that was changed. */
export function sequenceOf({ messageId }) {
  return Number(messageId.slice(messageId.lastIndexOf(':') + 1));
}
