// Package browser tests the pages in a real browser, as people use them.
//
// In:  make test.
// Out: edge/localui, cloud/dashboard, internal/workspace, Chromium.
package browser
