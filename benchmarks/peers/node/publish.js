// Bun's own publish and subscribe (with µWebSockets inside), without GraphQL: one JSON.stringify for each message, and one
// call for all subscribers.
import { host, makeMessage, port } from './message.js'

function publish (server, body) {
  const message = makeMessage({
    channelId: body.channel_id,
    author: body.author,
    content: body.content,
    lane: body.lane,
    provider: body.provider,
    tokenCount: body.token_count
  })
  const { channelId, tokenCount, ...rest } = message
  const item = { channel_id: channelId, token_count: tokenCount, ...rest }
  server.publish(channelId, JSON.stringify({ type: 'message', data: item }))
  return item
}

Bun.serve({
  hostname: host,
  port,
  async fetch (request, server) {
    const { pathname } = new URL(request.url)
    if (request.method === 'POST' && pathname === '/api/messages') {
      return Response.json({ success: true, message: publish(server, await request.json()) })
    }
    const match = /^\/api\/ws\/([^/?]+)/.exec(pathname)
    if (match && server.upgrade(request, { data: { channel: match[1] } })) return
    return new Response(null, { status: 404 })
  },
  websocket: {
    perMessageDeflate: false,
    open (socket) {
      socket.subscribe(socket.data.channel)
    },
    message () {}
  }
})
