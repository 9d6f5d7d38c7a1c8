package blocks

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
)

func TestSpan(t *testing.T) {
	for name, c := range map[string]struct {
		start, size int64
		first, last int32
	}{
		"nothing":                {start: 3 * Size},
		"one byte":               {start: Size, size: 1, first: 1, last: 2},
		"a whole block":          {start: Size, size: Size, first: 1, last: 2},
		"over a boundary":        {start: 2*Size - 1, size: 2, first: 1, last: 3},
		"the end of the largest": {start: 64<<40 - 1, size: 1, first: 1<<27 - 1, last: 1 << 27},
	} {
		t.Run(name, func(t *testing.T) {
			if first, last := Span(c.start, c.size); first != c.first || last != c.last {
				t.Errorf("Span(%d, %d) = %d, %d; want %d, %d", c.start, c.size, first, last, c.first, c.last)
			}
		})
	}
}

func TestCountAndVolumeRoundUp(t *testing.T) {
	if got := Count(Size + 1); got != 2 {
		t.Errorf("Count of a block and a byte is %d", got)
	}
	if got := Volume(GiB + 1); got != 2 {
		t.Errorf("Volume of a GiB and a byte is %d", got)
	}
	if got := Volume(GiB); got != 1 {
		t.Errorf("Volume of a GiB is %d", got)
	}
}

func TestReadPadsBeyondTheEnd(t *testing.T) {
	disk := bytes.NewReader(bytes.Repeat([]byte{7}, Size+5))
	block := bytes.Repeat([]byte{9}, Size)
	if err := Read(disk, 1, block); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(block[:5], []byte{7, 7, 7, 7, 7}) || Sum(append(block[5:], 0, 0, 0, 0, 0)) != Zero {
		t.Error("the last block is not the disk's end and then zeros")
	}
}

// The figure is from python3:
//
//	import hashlib; d=lambda b: hashlib.sha256(b*524288).digest()
//	hashlib.sha256(d(b"\x01")+d(b"\x02")).hexdigest()
func TestLinearIsTheDigestOfRawDigests(t *testing.T) {
	const want = "7dc706375c7263b979baab30e7c04b50b6ec53cb616f3f690efcebf680a4e729"
	one, two := Sum(bytes.Repeat([]byte{1}, Size)), Sum(bytes.Repeat([]byte{2}, Size))
	if got := fmt.Sprintf("%x", Linear(slices.Values([]Block{{3, one}, {9, two}}))); got != want {
		t.Errorf("Linear = %s, want %s", got, want)
	}
}
