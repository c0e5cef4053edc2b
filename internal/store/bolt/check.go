package bolt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
)

// The layout of a bbolt file, format version 2, in the machine's byte order.
//
//	page     id u64, flags u16, count u16, overflow u32, then by flags:
//	meta     magic u32, version u32, page size u32, flags u32, root bucket,
//	         freelist page u64, pages in use u64, transaction u64, FNV-1a u64
//	leaf     count × (flags u32, position u32, key size u32, value size u32)
//	branch   count × (position u32, key size u32, child page u64)
//	freelist count (or 0xffff and count u64) × page u64
//	bucket   root page u64, sequence u64; root 0: a leaf follows in the value
//
// A position counts from the start of its element. A page is followed by
// overflow further ones that belong to it.
const (
	headerBytes  = 16
	elementBytes = 16
	bucketBytes  = 16
	metaSumBytes = 56 // of the meta, before its checksum

	branchFlag   = 0x01
	leafFlag     = 0x02
	metaFlag     = 0x04
	freelistFlag = 0x10
	bucketFlag   = 0x01 // of a leaf element

	boltMagic    = 0xED0CDAED
	boltVersion  = 2
	noFreelist   = ^uint64(0)
	metaPages    = 2
	longFreelist = 0xffff

	// maxDepth is far above that of any tree of 2⁴⁸ pages with two keys each.
	maxDepth = 64
)

var order = binary.NativeEndian

// checker walks a file as bbolt would, but with every bound checked and
// without a memory map.
type checker struct {
	file    io.ReaderAt
	pages   uint64           // in use: every page number is below
	claimed []uint64         // bit set of the pages that have been met
	buffers [maxDepth][]byte // one page for each level of the walk
}

// checkFile returns ErrDamaged, with the place, unless bbolt can open the file
// and reach each of its records without a fault.
func checkFile(file io.ReaderAt, size int64) error {
	c := &checker{file: file}
	m, err := c.liveMeta()
	if err != nil {
		return err
	}
	if m.pages < metaPages || m.pages > uint64(size)/pageSize {
		return damaged("%d pages should be there, the file has room for %d", m.pages, size/pageSize)
	}
	c.pages = m.pages
	c.claimed = make([]uint64, m.pages/64+1)
	if err := c.claim(0, metaPages); err != nil {
		return err
	}
	if err := c.tree(m.root, nil, nil, 0); err != nil {
		return err
	}
	return c.freelist(m.freelist)
}

type meta struct{ root, freelist, pages, txid uint64 }

// liveMeta returns the meta page of the last commit. bbolt writes the two in
// turns; one whose checksum alone is wrong was being written when the machine
// stopped, and its transaction was never answered. Anything else is damage, and
// going back to the other page could forget an accepted code.
func (c *checker) liveMeta() (live meta, err error) {
	found := false
	for i := range uint64(metaPages) {
		page, err := c.read(0, i, 1)
		if err != nil {
			return meta{}, err
		}
		m := page[headerBytes:]
		if order.Uint64(page) != i || order.Uint16(page[8:]) != metaFlag || order.Uint32(m) != boltMagic ||
			order.Uint32(m[4:]) != boltVersion || order.Uint32(m[8:]) != pageSize {
			return meta{}, damaged("page %d isn't the head of a database", i)
		}
		if metaSum(m) != order.Uint64(m[metaSumBytes:]) {
			continue
		}
		txid := order.Uint64(m[48:])
		if !found || txid > live.txid {
			live = meta{order.Uint64(m[16:]), order.Uint64(m[32:]), order.Uint64(m[40:]), txid}
		}
		found = true
	}
	if !found {
		return meta{}, damaged("both head pages have a wrong checksum")
	}
	return live, nil
}

func metaSum(meta []byte) uint64 {
	sum := fnv.New64a()
	sum.Write(meta[:metaSumBytes])
	return sum.Sum64()
}

// tree checks the pages below id: all keys in order, the first is lo, the last
// before hi; nil is no bound. That a branch names each child by its first key
// is what bbolt finds the branch's element by when the child changes.
func (c *checker) tree(id uint64, lo, hi []byte, depth int) error {
	if depth >= maxDepth {
		return damaged("page %d: the tree is too deep", id)
	}
	page, err := c.page(id, depth)
	if err != nil {
		return err
	}
	switch order.Uint16(page[8:]) {
	case leafFlag:
		return c.leaf(id, page, lo, hi, depth)
	case branchFlag:
		return c.branch(id, page, lo, hi, depth)
	}
	return damaged("page %d: neither leaf nor branch", id)
}

func (c *checker) leaf(id uint64, page, lo, hi []byte, depth int) error {
	n, err := elements(id, page)
	if err != nil {
		return err
	}
	if n == 0 && lo != nil {
		return damaged("page %d: an empty leaf below a branch", id)
	}
	var last []byte
	for i := range n {
		at := headerBytes + i*elementBytes
		e := page[at:]
		key, value, ok := cut(page, at, order.Uint32(e[4:]), order.Uint32(e[8:]), order.Uint32(e[12:]))
		if !ok || !inOrder(last, key, lo, hi) {
			return damaged("page %d: element %d", id, i)
		}
		last = key
		switch flags := order.Uint32(e); {
		case flags == 0:
		case flags == bucketFlag && depth >= 0:
			if err := c.bucket(id, value, depth); err != nil {
				return err
			}
		default:
			return damaged("page %d: element %d is of no known kind", id, i)
		}
	}
	return nil
}

// bucket checks a bucket whose head stands in a leaf of page id.
func (c *checker) bucket(id uint64, value []byte, depth int) error {
	if len(value) < bucketBytes {
		return damaged("page %d: a bucket's head is cut", id)
	}
	if root := order.Uint64(value); root != 0 {
		return c.tree(root, nil, nil, depth+1)
	}
	inline := value[bucketBytes:]
	if len(inline) < headerBytes || order.Uint16(inline[8:]) != leafFlag {
		return damaged("page %d: a bucket's content is cut", id)
	}
	return c.leaf(id, inline, nil, nil, inlineDepth)
}

// inlineDepth marks a leaf within a value: no bucket can stand in it.
const inlineDepth = -1

func (c *checker) branch(id uint64, page, lo, hi []byte, depth int) error {
	n, err := elements(id, page)
	if err != nil {
		return err
	}
	if n == 0 {
		return damaged("page %d: an empty branch", id)
	}
	keys := make([][]byte, n)
	children := make([]uint64, n)
	var last []byte
	for i := range n {
		at := headerBytes + i*elementBytes
		e := page[at:]
		key, _, ok := cut(page, at, order.Uint32(e), order.Uint32(e[4:]), 0)
		if !ok || !inOrder(last, key, lo, hi) {
			return damaged("page %d: element %d", id, i)
		}
		last, keys[i], children[i] = key, key, order.Uint64(e[8:])
	}
	for i, child := range children {
		end := hi
		if i+1 < n {
			end = keys[i+1]
		}
		if err := c.tree(child, keys[i], end, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// freelist checks a list of free pages. This program writes none, but a file
// that bbolt's own tools have compacted has one.
func (c *checker) freelist(id uint64) error {
	if id == noFreelist {
		return nil
	}
	page, err := c.page(id, 0)
	if err != nil {
		return err
	}
	if order.Uint16(page[8:]) != freelistFlag {
		return damaged("page %d: not a list of free pages", id)
	}
	n, list := uint64(order.Uint16(page[10:])), page[headerBytes:]
	if n == longFreelist {
		n, list = order.Uint64(list), list[8:]
	}
	if n > uint64(len(list)/8) {
		return damaged("page %d: the list of free pages is cut", id)
	}
	for i := range n {
		if err := c.claim(order.Uint64(list[8*i:]), 1); err != nil {
			return err
		}
	}
	return nil
}

// page reads page id and what overflows from it, and claims them.
func (c *checker) page(id uint64, depth int) ([]byte, error) {
	if err := c.claim(id, 1); err != nil {
		return nil, err
	}
	page, err := c.read(depth, id, 1)
	if err != nil {
		return nil, err
	}
	if order.Uint64(page) != id {
		return nil, damaged("page %d: it says to be page %d", id, order.Uint64(page))
	}
	overflow := uint64(order.Uint32(page[12:]))
	if overflow == 0 {
		return page, nil
	}
	if err := c.claim(id+1, overflow); err != nil {
		return nil, err
	}
	return c.read(depth, id, 1+overflow)
}

// claim marks n pages from id on; no page may have two places in the file.
func (c *checker) claim(id, n uint64) error {
	if id >= c.pages || n > c.pages-id {
		return damaged("page %d: out of the file", id)
	}
	for ; n > 0; id, n = id+1, n-1 {
		if c.claimed[id/64]&(1<<(id%64)) != 0 {
			return damaged("page %d: used twice", id)
		}
		c.claimed[id/64] |= 1 << (id % 64)
	}
	return nil
}

func (c *checker) read(depth int, id, n uint64) ([]byte, error) {
	if uint64(cap(c.buffers[depth])) < n*pageSize {
		c.buffers[depth] = make([]byte, n*pageSize)
	}
	page := c.buffers[depth][:n*pageSize]
	if _, err := c.file.ReadAt(page, int64(id*pageSize)); err == io.EOF {
		return nil, damaged("the file ends in page %d", id)
	} else if err != nil {
		return nil, err
	}
	return page, nil
}

// elements returns the number of elements of a page, all of which lie in it.
func elements(id uint64, page []byte) (int, error) {
	n := int(order.Uint16(page[10:]))
	if headerBytes+n*elementBytes > len(page) {
		return 0, damaged("page %d: %d elements don't fit", id, n)
	}
	return n, nil
}

// cut returns an element's key and value, if they lie in the page.
func cut(page []byte, element int, position, keySize, valueSize uint32) (key, value []byte, ok bool) {
	start := uint64(element) + uint64(position)
	middle := start + uint64(keySize)
	end := middle + uint64(valueSize)
	if keySize == 0 || end > uint64(len(page)) {
		return nil, nil, false
	}
	return page[start:middle], page[middle:end], true
}

// inOrder reports whether key may follow last, or be the first if that is nil.
func inOrder(last, key, lo, hi []byte) bool {
	if last == nil && lo != nil && !bytes.Equal(key, lo) {
		return false
	}
	return bytes.Compare(last, key) < 0 && (hi == nil || bytes.Compare(key, hi) < 0)
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w (%s)", ErrDamaged, fmt.Sprintf(format, args...))
}
