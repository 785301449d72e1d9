// Package edge is the agent on a facility's box, put together: the local
// database, the capture of its changes, the queue they wait in, the way to
// the region, the heartbeat and the facility's own web pages.
//
// In:  edge/cmd/holdfast-edge.
// Out: every room of the edge, in the order in which Edge.Run starts them.
package edge
