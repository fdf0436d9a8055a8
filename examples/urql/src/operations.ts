import { graphql } from './gql';

// `sequence` and `cursor` are what resuming needs; `id` is what the cache merges by.
graphql(`
  fragment MessageFields on Message {
    id
    sequence
    cursor
    author
    content
    timestamp
  }
`);

export const HISTORY = graphql(`
  query History($channelId: ID!, $before: Cursor) {
    channel(id: $channelId) {
      id
      headCursor
      messages(last: 50, before: $before) {
        edges {
          cursor
          node {
            ...MessageFields
          }
        }
        pageInfo {
          hasPreviousPage
          startCursor
        }
      }
    }
  }
`);

export const LIVE = graphql(`
  subscription Live($channelId: ID!, $after: Cursor!) {
    messages(channelId: $channelId, after: $after) {
      ...MessageFields
    }
  }
`);

export const POST = graphql(`
  mutation Post($channelId: ID!, $author: String!, $content: String!, $idempotencyKey: String!) {
    postMessage(channelId: $channelId, author: $author, content: $content, idempotencyKey: $idempotencyKey) {
      ...MessageFields
    }
  }
`);
