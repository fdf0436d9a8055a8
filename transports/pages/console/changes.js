// What was done to a message after it was posted, and the rule by which every client ends with the same text.

/**
 * The message after `change`, the message itself where the change is in it already, or null where a change between the
 * two is missing: then the message has to be read anew.
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
      return null; // a kind of a later version of the server
  }
}

/** The number of the message that a change was done to. */
export function sequenceOf({ messageId }) {
  return Number(messageId.slice(messageId.lastIndexOf(':') + 1));
}
