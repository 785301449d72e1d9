// Package enrol tests how a box becomes a member of its region: the box's side
// and the region's, over real TLS and a real database.
//
// In:  edge/enrol and cloud/provision.
// Out: nothing.
package enrol
