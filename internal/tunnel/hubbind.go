package tunnel

import (
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
)

// hubBatch is how many datagrams wireguard handles at once at a hub. It makes two
// slices of that length for each peer: with the 128 of its own Bind they would take
// 6 KB of each of thousands of facilities.
const hubBatch = 32

// hubBind is wireguard's own Bind in smaller batches. It answers from the address
// that a peer's last packet came to, and does not look at the routes between two packets.
type hubBind struct{ conn.Bind }

func newHubBind() conn.Bind { return hubBind{conn.NewStdNetBind()} }

// BatchSize is the most that a receive function returns at once.
func (hubBind) BatchSize() int { return hubBatch }

// Open listens on port for both families.
func (b hubBind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	fns, actual, err := b.Bind.Open(port)
	for i, receive := range fns {
		fns[i] = newDealer(receive, b.Bind.BatchSize()).receive
	}
	return fns, actual, err
}

// dealer deals out what one call has received: wireguard's own Bind insists on room
// for a whole batch of its own. It is used by one goroutine.
type dealer struct {
	from     conn.ReceiveFunc
	bufs     [][]byte
	sizes    []int
	eps      []conn.Endpoint
	have, at int
}

func newDealer(from conn.ReceiveFunc, batch int) *dealer {
	d := &dealer{from: from, bufs: make([][]byte, batch), sizes: make([]int, batch), eps: make([]conn.Endpoint, batch)}
	for i := range d.bufs {
		d.bufs[i] = make([]byte, device.MaxMessageSize)
	}
	return d
}

func (d *dealer) receive(packets [][]byte, sizes []int, eps []conn.Endpoint) (n int, err error) {
	if d.at == d.have {
		d.have, d.at = 0, 0
		if d.have, err = d.from(d.bufs, d.sizes, d.eps); err != nil {
			d.have = 0
			return 0, err
		}
	}
	for ; n < len(packets) && d.at < d.have; d.at++ {
		sizes[n] = copy(packets[n], d.bufs[d.at][:d.sizes[d.at]])
		eps[n], d.eps[d.at] = d.eps[d.at], nil
		n++
	}
	return n, nil
}
