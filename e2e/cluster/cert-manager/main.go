// Cert-manager's own controllers for approval and for CA issuers, put together from its public packages: the program that it
// ships can be built only within its repository. What is left out (ACME, Vault, its webhook, Certificates) the tests do not use.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/cert-manager/cert-manager/pkg/controller"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/approver"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/ca"
	_ "github.com/cert-manager/cert-manager/pkg/controller/issuers"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/ca"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "path of a kubeconfig")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *kubeconfig); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, kubeconfig string) error {
	contexts, err := controller.NewContextFactory(ctx, controller.ContextOptions{
		Kubeconfig:         kubeconfig,
		KubernetesAPIQPS:   50,
		KubernetesAPIBurst: 100,
		IssuerOptions:      controller.IssuerOptions{ClusterResourceNamespace: "cert-manager"},
	})
	if err != nil {
		return err
	}
	informers, err := contexts.Build()
	if err != nil {
		return err
	}
	failures := make(chan error, 16)
	var running sync.WaitGroup
	for _, construct := range controller.Known() {
		// Building a controller registers the informers that it needs: all of them before any starts.
		built, err := construct(contexts)
		if err != nil {
			return err
		}
		running.Go(func() { failures <- built.Run(1, ctx) })
	}
	informers.SharedInformerFactory.Start(ctx.Done())
	informers.KubeSharedInformerFactory.Start(ctx.Done())
	select {
	case <-ctx.Done():
		running.Wait()
		return nil
	case err := <-failures:
		return err
	}
}
