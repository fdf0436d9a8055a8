/** The state of the connection, for React. */

import { useSyncExternalStore } from 'react';
import type { ConnectionState } from './reconnect';

let state: ConnectionState = 'connecting';
const listeners = new Set<() => void>();

export function setConnectionState(next: ConnectionState): void {
  state = next;
  listeners.forEach((listener) => listener());
}

export function useConnectionState(): ConnectionState {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => state,
  );
}
