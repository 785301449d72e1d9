// Package detect judges: from what is known of the facilities and of the region
// itself, and from nothing else, it says what each facility is and what is wrong
// now. It does no I/O and knows no clock but the one it is given.
//
// In:  cloud/fleet, with evidence and its ages.
// Out: cloud/fleet, which shows the states; cloud/alert, which opens and resolves incidents.
package detect
