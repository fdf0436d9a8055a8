/** What both apps look like. Nothing here knows of GraphQL. */

import './ui.css';
import { memo, useLayoutEffect, useRef, useState, type FormEvent, type ReactNode } from 'react';
import { useConnectionState } from '../reconnect/badge';

export interface Message {
  id: string;
  sequence: number;
  author: string;
  content: string;
  timestamp: string;
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

export function Messages({ messages, onOlder }: { messages: Message[]; onOlder?: (() => void) | undefined }) {
  const list = useRef<HTMLOListElement>(null);
  const following = useRef(true);
  useLayoutEffect(() => {
    if (following.current && list.current) list.current.scrollTop = list.current.scrollHeight;
  }, [messages]);
  return (
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
        <Row key={message.id} message={message} />
      ))}
    </ol>
  );
}

const Row = memo(({ message }: { message: Message }) => {
  const stored = !message.id.startsWith('optimistic:');
  return (
    <li className={stored ? 'message' : 'message unstored'}>
      <span className="sequence">{stored ? message.sequence : '…'}</span>
      <b>
        <bdi>{message.author}</bdi>
      </b>
      <time dateTime={message.timestamp}>{new Date(message.timestamp).toLocaleTimeString()}</time>
      <p dir="auto">{message.content}</p>
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
