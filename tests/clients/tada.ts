// gql.tada infers a query's result from the schema's introspection, with the scalars as docs/clients/others.md has them.
import { initGraphQLTada, type ResultOf, type VariablesOf } from 'gql.tada';
import type { introspection } from './introspection.ts';

const graphql = initGraphQLTada<{
  introspection: introspection;
  scalars: { Cursor: string; DateTime: string };
}>();

const page = graphql(`
  query Page($after: Cursor) {
    channel(id: "general") { headCursor messages(after: $after) { edges { node { sequence timestamp } } } }
  }
`);

declare const result: ResultOf<typeof page>;
const cursor: string = result.channel.headCursor;
const timestamp: string | undefined = result.channel.messages.edges[0]?.node.timestamp;
// @ts-expect-error: a cursor is no number
const wrong: VariablesOf<typeof page> = { after: 1 };
export { cursor, timestamp, wrong };
