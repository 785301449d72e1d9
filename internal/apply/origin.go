package apply

import (
	"fmt"
	"strings"

	"github.com/agogsaas/holdfast/internal/change"
)

// OriginPrefix is the prefix of the logical message that each applied
// transaction begins with. A capture of the receiver's own WAL finds it there
// and knows that the transaction came from elsewhere.
const OriginPrefix = "holdfast"

// FlushPrefix is the prefix of the message whose only purpose is to be flushed.
const FlushPrefix = "holdfast.flush"

// Direction is which way changes flow.
type Direction string

// The directions.
const (
	Up   Direction = "up"   // edge to region
	Down Direction = "down" // region to edge
)

// Origin is the content of the message.
type Origin struct {
	Direction Direction
	Facility  string
	Position  change.Position
}

func (o Origin) String() string {
	return string(o.Direction) + " " + o.Facility + " " + o.Position.String()
}

// ParseOrigin reads what String wrote.
func ParseOrigin(s string) (Origin, error) {
	f := strings.Split(s, " ")
	if len(f) != 3 || (f[0] != string(Up) && f[0] != string(Down)) || f[1] == "" {
		return Origin{}, fmt.Errorf("origin %.100q is not direction, facility, position", s)
	}
	o := Origin{Direction: Direction(f[0]), Facility: f[1]}
	if _, err := fmt.Sscanf(f[2], "%d:%d", &o.Position.Epoch, &o.Position.Seq); err != nil || o.String() != s {
		return Origin{}, fmt.Errorf("origin %.100q has no position", s)
	}
	return o, nil
}
