// Package cloud is a region's control plane, put together: its database, the
// broker, the tunnel hub, what receives and applies the facilities' changes,
// the fleet's state, the dashboard and the API.
//
// In:  cloud/cmd/holdfast-cloud.
// Out: every room of the region, in the order in which Cloud.Run starts them.
package cloud
