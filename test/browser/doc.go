// Package browser tests the pages in a real browser, as people use them.
//
// With HOLDFAST_SCREENSHOTS=dir the pictures that the tests look at are kept
// there; those in docs/images were made so.
//
// In:  make test.
// Out: edge/localui, cloud/dashboard, internal/workspace, Chromium.
package browser
