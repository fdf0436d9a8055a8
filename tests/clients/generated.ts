// Uses the REST shim with openapi-fetch, and with the types that openapi-typescript has made from `/openapi.json`. The
// argument is the URL of the server. The compiler checks this file first, which shows that the types are usable.
import createClient from 'openapi-fetch';
import type { paths } from './rest.ts';

declare const process: { argv: string[] };

const client = createClient<paths>({ baseUrl: process.argv[2] });
const body = { channel_id: 'general', author: 'ann', content: 'Hello!', token_count: 2 };

const posted = await client.POST('/api/messages', { params: { header: { 'Idempotency-Key': 'key' } }, body });
const repeated = await client.POST('/api/messages', { params: { header: { 'Idempotency-Key': 'key' } }, body });
const found = await client.GET('/api/messages', { params: { query: { channel_id: 'general', limit: 10 } } });
const expired = await client.GET('/api/messages', { params: { query: { channel_id: 'general', after: 'x' } } });
// @ts-expect-error: a limit is a number
await client.GET('/api/messages', { params: { query: { limit: 'ten' } } });
const cursor: string | undefined = posted.data?.message.cursor;
const resume: string = expired.error && 'resume_cursor' in expired.error ? expired.error.resume_cursor : '';

console.log(
  JSON.stringify({
    sequences: [posted.data?.message.sequence, repeated.data?.message.sequence],
    listed: found.data?.messages.map(({ content, lane }) => [content, lane]),
    status: expired.response.status,
    cursors: [typeof cursor, resume],
  }),
);
