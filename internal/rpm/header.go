package rpm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// The limits of rpm itself (lib/header.c), above which a header is damaged.
const (
	maxEntries = 0xffff
	maxData    = 256 << 20
)

// Types of the values in a header.
const (
	typeInt32       = 4
	typeString      = 6
	typeBinary      = 7
	typeStringArray = 8
	typeI18NString  = 9
)

var headerMagic = []byte{0x8e, 0xad, 0xe8, 0x01}

// header is a header structure: an index of tags and the store that it points
// into. Nothing of it is believed before it is used: a tag that points outside
// of the store has no value.
type header struct {
	raw   []byte // as in the file, without padding
	index map[uint32]entry
	store []byte
}

type entry struct {
	kind, offset, count uint32
}

func readHeader(r io.Reader, what string) (*header, error) {
	intro := make([]byte, 16)
	if _, err := io.ReadFull(r, intro); err != nil {
		return nil, fmt.Errorf("it ends within the %s", what)
	}
	if !bytes.HasPrefix(intro, headerMagic) {
		return nil, fmt.Errorf("the %s begins with %x, not with %x", what, intro[:4], headerMagic)
	}
	entries, size := binary.BigEndian.Uint32(intro[8:]), binary.BigEndian.Uint32(intro[12:])
	if entries == 0 || entries > maxEntries || size > maxData {
		return nil, fmt.Errorf("the %s says that it has %d entries and %d bytes", what, entries, size)
	}

	// The buffer grows as bytes come: a damaged size can't take the memory.
	var raw bytes.Buffer
	raw.Write(intro)
	length := int64(entries)*16 + int64(size)
	if n, err := io.CopyN(&raw, r, length); err != nil {
		return nil, fmt.Errorf("it ends %d bytes before the end of the %s", length-n, what)
	}

	h := &header{raw: raw.Bytes(), index: make(map[uint32]entry, entries)}
	h.store = h.raw[16+entries*16:]
	for i := range entries {
		e := h.raw[16+i*16:]
		h.index[binary.BigEndian.Uint32(e)] = entry{
			kind:   binary.BigEndian.Uint32(e[4:]),
			offset: binary.BigEndian.Uint32(e[8:]),
			count:  binary.BigEndian.Uint32(e[12:]),
		}
	}
	return h, nil
}

// at returns the store from the tag's value on, nil if it has none of the kinds.
func (h *header) at(tag uint32, kinds ...uint32) ([]byte, uint32) {
	e, ok := h.index[tag]
	if !ok || e.count == 0 || uint64(e.offset) >= uint64(len(h.store)) {
		return nil, 0
	}
	for _, kind := range kinds {
		if e.kind == kind {
			return h.store[e.offset:], e.count
		}
	}
	return nil, 0
}

// strings returns the values of a tag that has strings, nil if it has none.
func (h *header) strings(tag uint32) []string {
	rest, count := h.at(tag, typeString, typeStringArray, typeI18NString)
	var values []string
	for range count {
		value, after, found := bytes.Cut(rest, []byte{0})
		if !found {
			return nil
		}
		values, rest = append(values, string(value)), after
	}
	return values
}

func (h *header) string(tag uint32) string {
	if values := h.strings(tag); len(values) > 0 {
		return values[0]
	}
	return ""
}

func (h *header) int32(tag uint32) (value uint32, ok bool) {
	b, _ := h.at(tag, typeInt32)
	if len(b) < 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(b), true
}

func (h *header) binary(tag uint32) []byte {
	b, count := h.at(tag, typeBinary)
	if uint64(count) > uint64(len(b)) {
		return nil
	}
	return b[:count]
}
