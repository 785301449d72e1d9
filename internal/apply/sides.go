package apply

// side is one of the two sides in words.
type side struct {
	the, in, its string
}

var (
	theRegion   = side{"the region", "in the region", "the region's"}
	theFacility = side{"the facility", "at the facility", "the facility's"}
)

// here is the side that applies, there the one that sends.
func (d Direction) here() side {
	if d == Down {
		return theFacility
	}
	return theRegion
}

func (d Direction) there() side {
	if d == Down {
		return theRegion
	}
	return theFacility
}
