/** The user interface of both apps. It contains no GraphQL. */

import './ui.css';
import { memo, useCallback, useLayoutEffect, useRef, useState, type FormEvent, type ReactNode } from 'react';
import { useConnectionState } from '../reconnect/badge';

export interface Message {
  id: string;
  sequence: number;
  author: string;
  content: string;
  timestamp: string;
  complete: boolean;
  editedAt?: string | null;
  erasedAt?: string | null;
}

/** What a user can do to a message. If it is refused, the promise rejects with an error that says why. */
export interface Actions<M> {
  stop: (message: M) => Promise<unknown>;
  edit: (message: M, content: string) => Promise<unknown>;
  erase: (message: M) => Promise<unknown>;
}

const LABELS = { connecting: 'connecting…', live: 'live', waiting: 'reconnecting…' };

export const channelFromAddress = () => new URLSearchParams(location.search).get('channel') ?? 'general';

export function Page({ title, children }: { title: string; children: ReactNode }) {
  const state = useConnectionState();
  return (
    <main>
      <header>
        <h1>
          #{channelFromAddress()} <small>with {title}</small>
        </h1>
        <p role="status" className={`badge ${state}`}>
          {LABELS[state]}
        </p>
      </header>
      {children}
    </main>
  );
}

export function Messages<M extends Message>({ messages, actions, onOlder }: { messages: M[]; actions: Actions<M>; onOlder?: (() => void) | undefined }) {
  const list = useRef<HTMLOListElement>(null);
  const following = useRef(true);
  const [problem, setProblem] = useState('');
  const act = useRef(actions);
  act.current = actions;
  // This function is always the same for all rows. So a row is drawn again only when its message has changed.
  const run = useCallback((message: Message, action: 'stop' | 'edit' | 'erase', content = '') => {
    setProblem('');
    act.current[action](message as M, content).catch((error: Error) => setProblem(error.message));
  }, []);
  useLayoutEffect(() => {
    if (following.current && list.current) list.current.scrollTop = list.current.scrollHeight;
  }, [messages]);
  return (
    <>
    <ol
      ref={list}
      role="log"
      tabIndex={0}
      onScroll={({ currentTarget: { scrollTop, clientHeight, scrollHeight } }) => {
        following.current = scrollTop + clientHeight > scrollHeight - 48;
      }}
    >
      {onOlder && (
        <li className="older">
          <button onClick={onOlder}>Load older</button>
        </li>
      )}
      {messages.map((message) => (
        <Row key={message.id} message={message} run={run} />
      ))}
    </ol>
    {problem && <p role="alert">{problem}</p>}
    </>
  );
}

type Run = (message: Message, action: 'stop' | 'edit' | 'erase', content?: string) => void;

const Row = memo(({ message, run }: { message: Message; run: Run }) => {
  const [draft, setDraft] = useState<string | null>(null);
  const stored = !message.id.startsWith('optimistic:');
  return (
    <li className={stored ? 'message' : 'message unstored'}>
      <span className="sequence">{stored ? message.sequence : '…'}</span>
      <b>
        <bdi>{message.author}</bdi>
      </b>
      <time dateTime={message.timestamp}>{new Date(message.timestamp).toLocaleTimeString()}</time>
      {draft !== null ? (
        <form
          className="edit"
          onSubmit={(event) => {
            event.preventDefault();
            run(message, 'edit', draft);
            setDraft(null);
          }}
        >
          <input aria-label="New content" autoFocus value={draft} onChange={(event) => setDraft(event.target.value)} />
          <button>Save</button>
          <button type="button" onClick={() => setDraft(null)}>
            Cancel
          </button>
        </form>
      ) : (
        <p dir="auto" className={message.erasedAt ? 'erased' : message.complete ? '' : 'growing'}>
          {message.erasedAt ? 'erased' : message.content}
        </p>
      )}
      {stored && !message.erasedAt && draft === null && (
        <span className="actions">
          {message.editedAt && <small>edited</small>}
          {message.complete ? (
            <button onClick={() => setDraft(message.content)}>Edit</button>
          ) : (
            <button onClick={() => run(message, 'stop')}>Stop</button>
          )}
          <button onClick={() => run(message, 'erase')}>Erase</button>
        </span>
      )}
    </li>
  );
});

export function Composer({ onPost }: { onPost: (author: string, content: string) => Promise<unknown> }) {
  const [author, setAuthor] = useState('guest');
  const [content, setContent] = useState('');
  const [problem, setProblem] = useState('');
  async function submit(event: FormEvent) {
    event.preventDefault();
    setContent('');
    setProblem('');
    await onPost(author, content).catch((error: Error) => setProblem(error.message));
  }
  return (
    <form onSubmit={submit}>
      {problem && <p role="alert">{problem}</p>}
      <input aria-label="Author" name="author" required maxLength={128} value={author} onChange={(event) => setAuthor(event.target.value)} />
      <input
        aria-label="Message"
        name="content"
        required
        autoComplete="off"
        dir="auto"
        value={content}
        onChange={(event) => setContent(event.target.value)}
      />
      <button>Post</button>
    </form>
  );
}
