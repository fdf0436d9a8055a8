// gql.tada infers the result of a query from the schema's introspection. The scalars are as in docs/clients/others.md.
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
