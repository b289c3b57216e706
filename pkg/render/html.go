package render

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"iamkeys/pkg/iamkeys/audit"
)

//go:embed page.css
var stylesheet string

// HTML writes the report as one page that needs nothing else: no script, nothing
// fetched. It tells everything that the report holds, however long that gets.
func HTML(r audit.Report) ([]byte, error) {
	var b bytes.Buffer
	if err := page(r).Render(context.Background(), &b); err != nil {
		return nil, fmt.Errorf("render the report as HTML: %w", err)
	}
	return b.Bytes(), nil
}

// A chart is the histogram of key ages, ready to draw. Lengths along the axis are
// percentages of its width, so that it fits any window while its text keeps its size.
type chart struct {
	bars        []bar
	ticks       []tick
	marks       []mark
	caption     string
	description string // what the picture shows, for those who do not see it
}

type bar struct {
	x, middle, width string
	y, height        string
	zone             string // fresh, aging or overdue
	label            string
	number           string // above the bar, short
}

type tick struct{ x, label string }

// A mark is a threshold.
type mark struct {
	x, anchor, dx string
	y             string
	zone, label   string
}

// plot is the height in pixels that bars may take.
const plot = 150

// draw lays the histogram out. Buckets beyond the last one that matters are left
// out; the last threshold is always within the picture, unless it lies beyond the
// buckets.
func draw(ages audit.KeyAges, t audit.Thresholds) chart {
	var c chart
	n, total, most := 0, 0, 0
	for i, keys := range ages.Counts {
		total += keys
		most = max(most, keys)
		if keys > 0 {
			n = i + 1
		}
	}
	if total == 0 || ages.BucketDays < 1 {
		return chart{}
	}
	n = min(max(n, t.MaxAgeDays/ages.BucketDays+2), len(ages.Counts))
	percent := func(buckets float64) string { return fmt.Sprintf("%.2f%%", 100*buckets/float64(n)) }

	var words []string
	for i, keys := range ages.Counts[:n] {
		from := i * ages.BucketDays
		span := fmt.Sprintf("%d to %d days", from, from+ages.BucketDays-1)
		if i == len(ages.Counts)-1 {
			span = fmt.Sprintf("%d days and more", from)
		}
		if keys == 0 {
			continue
		}
		height := max(3, float64(plot*keys)/float64(most))
		b := bar{
			x: percent(float64(i) + .08), middle: percent(float64(i) + .5), width: percent(.84), y: fmt.Sprintf("%.1f", plot-height), height: fmt.Sprintf("%.1f", height),
			zone: "fresh", label: span + ": " + several(keys, "key"),
		}
		switch {
		case from >= t.MaxAgeDays:
			b.zone = "overdue"
		case from >= t.WarnAgeDays:
			b.zone = "aging"
		}
		if keys < 1000 {
			b.number = count(keys)
		} else {
			b.number = fmt.Sprintf("%.3gk", float64(keys)/1000)
		}
		c.bars = append(c.bars, b)
		words = append(words, b.label)
	}
	every := 1 // buckets from label to label, some seven of them along the axis
	for _, every = range []int{1, 2, 4, 6, 12, 24, 48} {
		if n/every <= 7 {
			break
		}
	}
	for i := 0; i < n; i += every {
		label := count(i * ages.BucketDays)
		if i == len(ages.Counts)-1 {
			label += "+"
		}
		c.ticks = append(c.ticks, tick{percent(float64(i)), label})
	}
	for i, threshold := range []mark{
		{zone: "aging", label: fmt.Sprintf("aging after %d days", t.WarnAgeDays)},
		{zone: "overdue", label: fmt.Sprintf("overdue after %d days", t.MaxAgeDays)},
	} {
		at := float64([]int{t.WarnAgeDays, t.MaxAgeDays}[i]) / float64(ages.BucketDays)
		if at >= float64(len(ages.Counts)) {
			continue
		}
		threshold.x, threshold.y, threshold.anchor, threshold.dx = percent(at), fmt.Sprint(-22+16*i), "start", "6"
		if at > float64(n)*.6 {
			threshold.anchor, threshold.dx = "end", "-6"
		}
		c.marks = append(c.marks, threshold)
	}
	c.caption = "Active keys by age in days."
	if ages.OldestDays != nil {
		c.caption += fmt.Sprintf(" The oldest one is %s old.", several(*ages.OldestDays, "day"))
	}
	c.description = fmt.Sprintf("%s by age. %s.", several(total, "Active key"), strings.Join(words, "; "))
	return c
}

// fresh gives the new findings, worst first.
func fresh(all []audit.Finding) []audit.Finding {
	return slices.DeleteFunc(slices.Clone(all), func(f audit.Finding) bool { return f.State != audit.New })
}
