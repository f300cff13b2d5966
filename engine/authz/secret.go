// SPDX-License-Identifier: AGPL-3.0-only

package authz

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// The cost of a hash: OWASP's least for argon2id. One hash takes costMemoryKiB of memory, so a caller bounds how many run
// at once.
const (
	costMemoryKiB = 19 << 10
	costPasses    = 2
	costLanes     = 1
	saltLen       = 16
	hashLen       = 32
)

// What a stored hash may ask for: room to raise the cost later, not to be made to allocate at will.
const (
	costMemoryKiBMax = 256 << 10
	costPassesMax    = 16
	costLanesMax     = 8
	saltLenMin       = 8
	saltLenMax       = 64
	hashLenMin       = 16
	hashLenMax       = 64
)

// ErrSecretCodec is what VerifySecret's errors about the stored hash are: it is damaged, or made by something else.
var ErrSecretCodec = errors.New("bad stored secret")

// HashSecret returns the salted, slow hash of a secret, as a PHC string (`$argon2id$v=19$m=19456,t=2,p=1$salt$hash`).
// It draws the salt itself: hash before proposing, never while applying.
func HashSecret(secret []byte) (string, error) {
	if err := CheckSecret(secret); err != nil {
		return "", err
	}
	salt := make([]byte, saltLen)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("draw a salt: %w", err)
	}
	hash := argon2.IDKey(secret, salt, costPasses, costMemoryKiB, costLanes, hashLen)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, costMemoryKiB, costPasses, costLanes,
		b64.EncodeToString(salt), b64.EncodeToString(hash)), nil
}

// CheckSecret checks the length of a secret: 1 to SecretLenMax bytes.
func CheckSecret(secret []byte) error {
	if len(secret) == 0 {
		return refuse(ErrInvalid, "secret is empty")
	}
	if len(secret) > SecretLenMax {
		return refuse(ErrInvalid, "secret of %d bytes exceeds limit %d", len(secret), SecretLenMax)
	}
	return nil
}

// VerifySecret says whether the secret is the one that was hashed, in a time that does not depend on where they differ.
// A secret that CheckSecret refuses is not it, and costs nothing: its length tells nothing about the stored one.
func VerifySecret(encoded string, secret []byte) (bool, error) {
	h, err := parseHash(encoded)
	if err != nil {
		return false, err
	}
	if CheckSecret(secret) != nil {
		return false, nil
	}
	got := argon2.IDKey(secret, h.salt, h.passes, h.memoryKiB, h.lanes, uint32(len(h.sum)))
	return subtle.ConstantTimeCompare(got, h.sum) == 1, nil
}

// VerifyUnknown takes as long as VerifySecret does, for a name that has no hash, so that the time of a refusal does not
// tell which names exist.
func VerifyUnknown(secret []byte) {
	if CheckSecret(secret) != nil {
		return
	}
	var salt [saltLen]byte
	var sum [hashLen]byte
	got := argon2.IDKey(secret, salt[:], costPasses, costMemoryKiB, costLanes, hashLen)
	subtle.ConstantTimeCompare(got, sum[:])
}

// storedHash is a parsed PHC string.
type storedHash struct {
	memoryKiB uint32
	passes    uint32
	lanes     uint8
	salt, sum []byte
}

// parseHash reads exactly the form that HashSecret writes, with other costs within the bounds.
func parseHash(encoded string) (storedHash, error) {
	if len(encoded) > EncodedSecretLenMax {
		return storedHash{}, fmt.Errorf("%w: length %d exceeds limit %d", ErrSecretCodec, len(encoded), EncodedSecretLenMax)
	}
	parts := strings.Split(encoded, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v="+strconv.Itoa(argon2.Version) {
		return storedHash{}, fmt.Errorf("%w: not argon2id version %d", ErrSecretCodec, argon2.Version)
	}
	costs := strings.Split(parts[3], ",")
	if len(costs) != 3 {
		return storedHash{}, fmt.Errorf("%w: want three costs", ErrSecretCodec)
	}
	memory, err1 := parseCost(costs[0], "m=", costMemoryKiBMax)
	passes, err2 := parseCost(costs[1], "t=", costPassesMax)
	lanes, err3 := parseCost(costs[2], "p=", costLanesMax)
	salt, err4 := parseBytes(parts[4], saltLenMin, saltLenMax)
	sum, err5 := parseBytes(parts[5], hashLenMin, hashLenMax)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return storedHash{}, err
	}
	return storedHash{memoryKiB: memory, passes: passes, lanes: uint8(lanes), salt: salt, sum: sum}, nil
}

func parseCost(text, prefix string, limit uint64) (uint32, error) {
	digits, ok := strings.CutPrefix(text, prefix)
	v, err := strconv.ParseUint(digits, 10, 32)
	if !ok || err != nil || v == 0 || v > limit || strconv.FormatUint(v, 10) != digits {
		return 0, fmt.Errorf("%w: cost %q is not %s1 to %d", ErrSecretCodec, text, prefix, limit)
	}
	return uint32(v), nil
}

func parseBytes(text string, least, most int) ([]byte, error) {
	b64 := base64.RawStdEncoding.Strict()
	b, err := b64.DecodeString(text)
	if err != nil || len(b) < least || len(b) > most || b64.EncodeToString(b) != text { // the decoder passes over line breaks
		return nil, fmt.Errorf("%w: want %d to %d bytes of base64", ErrSecretCodec, least, most)
	}
	return b, nil
}
