package broker

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/agogsaas/holdfast/internal/hint"
)

// crlMargin is how long a list of revoked certificates must still be good. The
// broker lets nobody in after that, so it must never come close.
const crlMargin = 7 * 24 * time.Hour

func checkCRL(raw []byte) error {
	block, _ := pem.Decode(raw)
	if block == nil {
		return errors.New("the list of revoked certificates is not PEM")
	}
	list, err := x509.ParseRevocationList(block.Bytes)
	if err != nil {
		return fmt.Errorf("the list of revoked certificates: %w", err)
	}
	if left := time.Until(list.NextUpdate); left < crlMargin {
		return hint.Wrap(fmt.Errorf("the list of revoked certificates is good for %s only", left.Round(time.Minute)),
			"Sign a list that is good for years: it is replaced at each change.")
	}
	return nil
}
