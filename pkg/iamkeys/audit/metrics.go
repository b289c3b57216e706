package audit

import "time"

// A Metric is one figure of a run.
type Metric struct {
	Name  string
	Unit  string // as CloudWatch names units
	Value float64
}

func metrics(r Report, calls int, took time.Duration) []Metric {
	s := r.Summary
	oldest := 0
	if s.KeyAges.OldestDays != nil {
		oldest = *s.KeyAges.OldestDays
	}
	return []Metric{
		{"FindingsCritical", "Count", float64(s.Severities.Critical)},
		{"FindingsHigh", "Count", float64(s.Severities.High)},
		{"FindingsMedium", "Count", float64(s.Severities.Medium)},
		{"FindingsLow", "Count", float64(s.Severities.Low)},
		{"Keys", "Count", float64(s.Coverage.Keys)},
		{"OldestKeyAgeDays", "None", float64(oldest)},
		{"NotExamined", "Count", float64(s.Coverage.notExamined())},
		{"AuditDuration", "Milliseconds", float64(took.Milliseconds())},
		{"ApiCalls", "Count", float64(calls)},
	}
}
