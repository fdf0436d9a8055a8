// graphql-yoga with graphql-ws, as yoga's documentation on subscriptions over WebSockets shows it.
// yoga caches parsed and validated documents by itself. Its documentation names nothing else to tune.
import { createServer } from 'node:http'
import { createPubSub, createSchema, createYoga } from 'graphql-yoga'
import { useServer } from 'graphql-ws/use/ws'
import { WebSocketServer } from 'ws'
import { host, makeMessage, port, typeDefs } from './message.js'

const pubSub = createPubSub()

const yoga = createYoga({
  logging: false,
  schema: createSchema({
    typeDefs,
    resolvers: {
      Query: { ready: () => true },
      Mutation: {
        postMessage: (_, args) => {
          const message = makeMessage(args)
          pubSub.publish('messages', args.channelId, message)
          return message
        }
      },
      Subscription: {
        messages: {
          subscribe: (_, { channelId }) => pubSub.subscribe('messages', channelId),
          resolve: (message) => message
        }
      }
    }
  })
})

const server = createServer(yoga)
const sockets = new WebSocketServer({ server, path: yoga.graphqlEndpoint })

useServer(
  {
    execute: (args) => args.rootValue.execute(args),
    subscribe: (args) => args.rootValue.subscribe(args),
    onSubscribe: async (ctx, _id, params) => {
      const { schema, execute, subscribe, contextFactory, parse, validate } = yoga.getEnveloped({
        ...ctx,
        req: ctx.extra.request,
        socket: ctx.extra.socket,
        params
      })
      const args = {
        schema,
        operationName: params.operationName,
        document: parse(params.query),
        variableValues: params.variables,
        contextValue: await contextFactory(),
        rootValue: { execute, subscribe }
      }
      const errors = validate(args.schema, args.document)
      return errors.length ? errors : args
    }
  },
  sockets
)

server.listen(port, host, 4096)
