package main

import (
	"context"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/agogsaas/holdfast/internal/tunnel"
	"github.com/agogsaas/holdfast/proto"
)

// The tunnels of thousands of boxes over one UDP socket: as WireGuard's paper has
// it (wireguard.com/papers/wireguard.pdf, section 5.4), the initiator's part of
// the handshake, keepalives, and the answer to the region's question whether
// somebody is there. A whole WireGuard with a network stack for each would take
// more memory than a machine has.
const (
	wgInitiation, wgResponse, wgData = 1, 2, 4

	keepEvery  = tunnel.DefaultKeepalive
	rekeyEvery = 120 * time.Second
	retryEvery = 5 * time.Second

	handshakesApart = 6 * time.Millisecond
	// handshakesAtOnce are under way at most: a hub with more of them in its queue
	// answers with cookies.
	handshakesAtOnce = 64
)

// keeper is the box's end of one tunnel.
type keeper struct {
	box     *box
	static  *ecdh.PrivateKey
	chained [blake2s.Size]byte // what only depends on the two static keys
	index   uint32
	silent  bool          // it says nothing any more
	opened  chan struct{} // closed when the tunnel has had its first handshake

	next      time.Time // when it does something again
	rekey     time.Time
	ephemeral *ecdh.PrivateKey // of the handshake that is under way
	c, h      [blake2s.Size]byte
	send, get cipher.AEAD // nil before the first handshake
	peerIndex uint32
	counter   uint64
}

// keepers are all of them.
type keepers struct {
	conn *net.UDPConn
	hub  *ecdh.PublicKey
	mac1 [blake2s.Size]byte

	mu       sync.Mutex
	all      []*keeper
	underway int // handshakes that are not answered yet
}

func newKeepers(boxes []*box, hub tunnel.PublicKey, port int) (*keepers, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port))))
	if err != nil {
		return nil, fmt.Errorf("open the tunnels' socket: %w", err)
	}
	if err := errors.Join(conn.SetReadBuffer(4<<20), conn.SetWriteBuffer(4<<20)); err != nil {
		return nil, fmt.Errorf("open the tunnels' socket: %w", err)
	}
	k := &keepers{conn: conn}
	if k.hub, err = ecdh.X25519().NewPublicKey(hub[:]); err != nil {
		return nil, fmt.Errorf("read the hub's key: %w", err)
	}
	k.mac1 = sum([]byte("mac1----"), hub[:])
	now := time.Now()
	// Not faster than the hub takes handshakes without asking for cookies, nor all
	// of the later ones at the same time.
	apart := min(handshakesApart, rekeyEvery*9/10/time.Duration(len(boxes)))
	for i, b := range boxes {
		static, err := ecdh.X25519().NewPrivateKey(b.key[:])
		if err != nil {
			return nil, fmt.Errorf("read a box's key: %w", err)
		}
		one := &keeper{box: b, static: static, index: uint32(i + 1), next: now.Add(time.Duration(i) * apart), opened: make(chan struct{})}
		shared, err := static.ECDH(k.hub)
		if err != nil {
			return nil, fmt.Errorf("agree with the hub: %w", err)
		}
		copy(one.chained[:], shared)
		k.all = append(k.all, one)
	}
	return k, nil
}

// run keeps the tunnels open until ctx is done.
func (k *keepers) run(ctx context.Context) {
	defer context.AfterFunc(ctx, func() { _ = k.conn.Close() })()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { k.read(ctx) })
	for pause(ctx, 50*time.Millisecond) == nil {
		now := time.Now()
		k.mu.Lock()
		for _, one := range k.all {
			if !one.silent && !one.next.After(now) {
				k.act(one, now)
			}
		}
		k.mu.Unlock()
	}
}

// act begins a handshake when it is time for one, and says that it is there otherwise.
func (k *keepers) act(one *keeper, now time.Time) {
	if one.send == nil || !one.rekey.After(now) {
		if one.ephemeral != nil { // it was not answered
			one.ephemeral = nil
			k.underway--
		}
		if k.underway >= handshakesAtOnce {
			return // it has its turn when others have ended
		}
		one.next = now.Add(retryEvery)
		if msg, err := k.initiate(one, now); err == nil {
			k.underway++
			_, _ = k.conn.Write(msg) // a packet may be lost: it is sent again
		}
		return
	}
	one.next = now.Add(keepEvery)
	k.say(one, nil)
}

// silence lets boxes say nothing any more, or talk again.
func (k *keepers) silence(silent bool, boxes ...int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, no := range boxes {
		k.all[no].silent = silent
	}
}

func (k *keepers) initiate(one *keeper, now time.Time) ([]byte, error) {
	var err error
	if one.ephemeral, err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
		return nil, err
	}
	one.c = sum([]byte("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"))
	one.h = sum(one.c[:], []byte("WireGuard v1 zx2c4 Jason@zx2c4.com"))
	one.h = sum(one.h[:], k.hub.Bytes())
	public := one.ephemeral.PublicKey().Bytes()
	msg := make([]byte, 148)
	msg[0] = wgInitiation
	binary.LittleEndian.PutUint32(msg[4:], one.index)
	copy(msg[8:40], public)
	one.h = sum(one.h[:], public)
	kdf(one.c[:], public, &one.c)
	shared, err := one.ephemeral.ECDH(k.hub)
	if err != nil {
		return nil, err
	}
	var key [blake2s.Size]byte
	kdf(one.c[:], shared, &one.c, &key)
	seal(msg[40:40], key, one.static.PublicKey().Bytes(), one.h[:])
	one.h = sum(one.h[:], msg[40:88])
	kdf(one.c[:], one.chained[:], &one.c, &key)
	var stamp [12]byte // TAI64N
	binary.BigEndian.PutUint64(stamp[:], 0x400000000000000a+uint64(now.Unix()))
	binary.BigEndian.PutUint32(stamp[8:], uint32(now.Nanosecond()))
	seal(msg[88:88], key, stamp[:], one.h[:])
	one.h = sum(one.h[:], msg[88:116])
	mac, err := blake2s.New128(k.mac1[:])
	if err != nil {
		return nil, err
	}
	mac.Write(msg[:116])
	mac.Sum(msg[116:116])
	return msg, nil
}

// read takes what the hub sends.
func (k *keepers) read(ctx context.Context) {
	buf := make([]byte, 2048)
	for ctx.Err() == nil {
		n, err := k.conn.Read(buf)
		if err != nil {
			_ = pause(ctx, 10*time.Millisecond) // nobody listens while the region restarts
			continue
		}
		msg := buf[:n]
		switch {
		case n == 92 && msg[0] == wgResponse:
			k.with(binary.LittleEndian.Uint32(msg[8:]), func(one *keeper) { k.answered(one, msg) })
		case n >= 32 && msg[0] == wgData:
			k.with(binary.LittleEndian.Uint32(msg[4:]), func(one *keeper) { k.data(one, msg) })
		}
	}
}

func (k *keepers) with(index uint32, fn func(*keeper)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if index >= 1 && int(index) <= len(k.all) && !k.all[index-1].silent {
		fn(k.all[index-1])
	}
}

// answered ends a handshake: there are new keys.
func (k *keepers) answered(one *keeper, msg []byte) {
	if one.ephemeral == nil {
		return
	}
	theirs, err := ecdh.X25519().NewPublicKey(msg[12:44])
	if err != nil {
		return
	}
	c, h := one.c, sum(one.h[:], msg[12:44])
	kdf(c[:], msg[12:44], &c)
	for _, mine := range []*ecdh.PrivateKey{one.ephemeral, one.static} {
		shared, err := mine.ECDH(theirs)
		if err != nil {
			return
		}
		kdf(c[:], shared, &c)
	}
	var t, key, send, get [blake2s.Size]byte
	kdf(c[:], make([]byte, 32), &c, &t, &key)
	h = sum(h[:], t[:])
	if _, err := aead(key).Open(nil, make([]byte, chacha20poly1305.NonceSize), msg[44:60], h[:]); err != nil {
		return
	}
	kdf(c[:], nil, &send, &get)
	if one.send == nil {
		close(one.opened)
	}
	now := time.Now()
	one.send, one.get, one.peerIndex, one.counter, one.ephemeral = aead(send), aead(get), binary.LittleEndian.Uint32(msg[4:]), 0, nil
	k.underway--
	one.rekey, one.next = now.Add(rekeyEvery), now.Add(keepEvery)
	k.say(one, nil) // it tells the hub that the keys are good
}

// say sends a packet, or only that it is there.
func (k *keepers) say(one *keeper, packet []byte) {
	packet = append(packet, make([]byte, (16-len(packet)%16)%16)...)
	msg := make([]byte, 16, 16+len(packet)+chacha20poly1305.Overhead)
	msg[0] = wgData
	binary.LittleEndian.PutUint32(msg[4:], one.peerIndex)
	binary.LittleEndian.PutUint64(msg[8:], one.counter)
	_, _ = k.conn.Write(one.send.Seal(msg, nonce(one.counter), packet, nil)) // as a packet that is lost
	one.counter++
}

// data is what comes through the tunnel. A connection that the region wants to open
// is refused: that is the answer to its question whether somebody is there.
func (k *keepers) data(one *keeper, msg []byte) {
	if one.get == nil {
		return
	}
	p, err := one.get.Open(nil, nonce(binary.LittleEndian.Uint64(msg[8:])), msg[16:], nil)
	const ip, tcp, syn, rstAck = 40, 20, 0x02, 0x14
	if err != nil || len(p) < ip+tcp || p[0]>>4 != 6 || p[6] != 6 || p[ip+13] != syn {
		return
	}
	out := make([]byte, ip+tcp)
	out[0], out[5], out[6], out[7] = 0x60, tcp, 6, 64
	copy(out[8:24], p[24:40])
	copy(out[24:40], p[8:24])
	t := out[ip:]
	copy(t[0:2], p[ip+2:ip+4])
	copy(t[2:4], p[ip:ip+2])
	binary.BigEndian.PutUint32(t[8:], binary.BigEndian.Uint32(p[ip+4:])+1)
	t[12], t[13] = 5<<4, rstAck
	binary.BigEndian.PutUint16(t[16:], checksum(out[8:40], t))
	if dst, ok := netip.AddrFromSlice(p[24:40]); ok && dst == proto.FacilityAddress(one.box.number) {
		k.say(one, out)
	}
}

// checksum is TCP's, over IPv6.
func checksum(addresses, segment []byte) uint16 {
	s := uint32(len(segment)) + 6
	for _, part := range [][]byte{addresses, segment} {
		for i := 0; i+1 < len(part); i += 2 {
			s += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

func sum(parts ...[]byte) (out [blake2s.Size]byte) {
	h := newHash()
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(out[:0])
	return out
}

func newHash() hash.Hash {
	h, _ := blake2s.New256(nil) // it only fails for a key that is too long
	return h
}

// kdf is HKDF with as many outputs as are wanted.
func kdf(key, input []byte, outs ...*[blake2s.Size]byte) {
	mac := func(key []byte, parts ...[]byte) []byte {
		m := hmac.New(newHash, key)
		for _, p := range parts {
			m.Write(p)
		}
		return m.Sum(nil)
	}
	secret := mac(key, input)
	var last []byte
	for i, out := range outs {
		last = mac(secret, last, []byte{byte(i + 1)})
		copy(out[:], last)
	}
}

func aead(key [blake2s.Size]byte) cipher.AEAD {
	a, _ := chacha20poly1305.New(key[:]) // it only fails for a key of another length
	return a
}

func nonce(counter uint64) []byte {
	n := make([]byte, chacha20poly1305.NonceSize)
	binary.LittleEndian.PutUint64(n[4:], counter)
	return n
}

// seal encrypts with a key that is used once.
func seal(dst []byte, key [blake2s.Size]byte, plain, more []byte) {
	aead(key).Seal(dst, make([]byte, chacha20poly1305.NonceSize), plain, more)
}
