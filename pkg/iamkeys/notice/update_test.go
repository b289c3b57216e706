package notice

import "flag"

// Update makes tests write the golden files and pages that they compare with.
var Update = flag.Bool("update", false, "write the golden files")
