// Command oracle writes the age project's test vectors into a folder.
package main

import (
	"log"
	"os"

	"c2sp.org/CCTV/age"
)

func main() {
	if err := os.CopyFS(os.Args[1], agetest.Vectors); err != nil {
		log.Fatal(err)
	}
}
