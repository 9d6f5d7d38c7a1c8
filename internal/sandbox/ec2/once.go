package ec2

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"
)

// request is a request that bore a client token, and what it was answered.
type request struct {
	Parameters string // digest of all of them
	Answer     json.RawMessage
	At         time.Time
}

// tokenLife is how long a client token is remembered at the least
// (https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html).
const tokenLife = 24 * time.Hour

// tokenLimit is how long a client token of an operation may be.
func tokenLimit(operation string) int {
	if strings.Contains(operation, "LaunchTemplate") {
		return 128
	}
	return 64
}

// once carries out a request that may be repeated: the same token again gets
// the first answer and changes nothing; with other parameters it is an error.
func once[In, Out any](r *region, operation, token string, in *In, do func() (*Out, error)) (*Out, error) {
	if token == "" {
		return do()
	}
	if limit := tokenLimit(operation); len(token) > limit {
		return nil, fail("InvalidParameterValue", "The client token may have at most %d characters.", limit)
	}
	parameters, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("remember client token %s: %w", token, err)
	}
	sum := sha256.Sum256(parameters)
	digest, key := hex.EncodeToString(sum[:]), operation+" "+token
	if before := r.Requests[key]; before != nil && r.now().Sub(before.At) < tokenLife {
		if before.Parameters != digest {
			return nil, fail("IdempotentParameterMismatch", "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).")
		}
		out := new(Out)
		if err := json.Unmarshal(before.Answer, out); err != nil {
			return nil, fmt.Errorf("recall client token %s: %w", token, err)
		}
		return out, nil
	}
	out, err := do()
	if err != nil {
		return nil, err
	}
	answer, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("remember client token %s: %w", token, err)
	}
	maps.DeleteFunc(r.Requests, func(_ string, old *request) bool { return r.now().Sub(old.At) >= tokenLife })
	r.Requests[key] = &request{digest, answer, r.now()}
	return out, nil
}
