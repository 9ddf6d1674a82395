package core

// Role is the preset of a box. CPE and HAG differ in who opens further subflows.
type Role string

const (
	CPE Role = "cpe" // customer premises equipment: opens subflows
	HAG Role = "hag" // hybrid aggregation gateway: takes them
)
