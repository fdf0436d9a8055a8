/** Changes of messages, and the rule for applying them. With it, every client ends with the same text. */

/** The fields of a message that are needed to apply a change. */
export interface Changeable {
  id: string;
  revision: number;
  content: string;
  complete: boolean;
  editedAt?: string | null;
  erasedAt?: string | null;
}

export interface Change {
  messageId: string;
  kind: 'APPENDED' | 'COMPLETED' | 'EDITED' | 'ERASED';
  revision: number;
  piece?: string | null;
  content?: string | null;
  timestamp: string;
}

const EARLY_MAX = 1_000;

/** The message after the change, if the change is its next one. Otherwise the message as it is. */
export function applyChange<M extends Changeable>(message: M, change: Change): M {
  if (change.revision !== message.revision + 1) return message;
  const { revision, timestamp } = change;
  switch (change.kind) {
    case 'APPENDED':
      return { ...message, revision, content: message.content + (change.piece ?? '') };
    case 'COMPLETED':
      return { ...message, revision, complete: true };
    case 'EDITED':
      return { ...message, revision, content: change.content ?? '', editedAt: timestamp };
    case 'ERASED':
      return { ...message, revision, content: '', complete: true, erasedAt: timestamp };
  }
}

/** Changes of messages that have not come yet. A page that was asked for before may bring such a message in its old form. */
export class EarlyChanges {
  #changes = new Map<string, Change[]>();

  keep(change: Change): void {
    this.#changes.set(change.messageId, [...(this.#changes.get(change.messageId) ?? []), change]);
    if (this.#changes.size > EARLY_MAX) this.#changes.delete(this.#changes.keys().next().value!);
  }

  /** The message, after applying the changes that came before it. */
  applied<M extends Changeable>(message: M): M {
    const changes = this.#changes.get(message.id) ?? [];
    this.#changes.delete(message.id);
    return changes.reduce<M>(applyChange, message);
  }
}
