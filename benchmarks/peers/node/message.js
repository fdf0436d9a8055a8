// What all Node servers share: the schema, how a message is made, and the command line.
export const typeDefs = /* GraphQL */ `
  type Message {
    id: ID!
    channelId: ID!
    sequence: Int!
    author: String!
    content: String!
    lane: String
    provider: String
    tokenCount: Int
    timestamp: String!
  }
  type Query {
    ready: Boolean!
  }
  type Mutation {
    postMessage(channelId: ID!, author: String!, content: String!, lane: String, provider: String, tokenCount: Int): Message!
  }
  type Subscription {
    messages(channelId: ID!): Message!
  }
`

const sequences = new Map()

export function makeMessage ({ channelId, author, content, lane = null, provider = null, tokenCount = null }) {
  const sequence = (sequences.get(channelId) ?? 0) + 1
  sequences.set(channelId, sequence)
  return {
    id: `${channelId}:${sequence}`,
    channelId,
    sequence,
    author,
    content,
    lane,
    provider,
    tokenCount,
    timestamp: new Date().toISOString()
  }
}

export const port = Number(process.env.PORT)
export const host = '127.0.0.1'
export const hasFlag = (name) => process.argv.includes(name)
