// Package oncall knows who is told: contacts and how they are reached, who is
// on call when, which policy an incident runs through, and where work is announced.
//
// In:  cloud/api and cloud/dashboard, where people set it up.
// Out: cloud/alert, which asks who is told now.
package oncall
