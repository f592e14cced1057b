//! Two pods of each plane, and four sources that do not stop.

use std::net::SocketAddr;

use zen_testkit::Upstream;

use crate::pods::load::Load;
use crate::pods::objects::HOOK;
use crate::pods::source::Source;
use crate::pods::stage::{Egress, Ingester, Stage, until};

pub struct Fleet {
    pub ingesters: [Ingester; 2],
    pub egresses: [Egress; 2],
}

impl Fleet {
    pub async fn start(stage: &Stage) -> Self {
        let (mut ingesters, mut egresses) = ([0, 1].map(Ingester::new), [0, 1].map(Egress::new));
        for ingester in &mut ingesters {
            ingester.start(stage, &[]).await;
            stage.peer(ingester).await;
        }
        for egress in &mut egresses {
            egress.start(stage).await;
        }
        stage.egresses(&egresses.iter().collect::<Vec<_>>()).await;
        Self { ingesters, egresses }
    }

    /// Begins when each ingester has taken an event.
    pub async fn load(&self, stage: &Stage) -> Load {
        let intakes: Vec<SocketAddr> = self.ingesters.iter().map(|it| it.addresses().intake.unwrap()).collect();
        for intake in &intakes {
            let mut source = Source::connect(*intake, stage.roots()).await;
            until("the Webhook is served", async || source.post(HOOK, "{}").await == 202).await;
        }
        Load::start(&intakes.repeat(2), &stage.trust())
    }

    /// Ends it. Also the links between ingesters and egresses held: all of it is delivered.
    pub async fn delivered(&self, load: Load, upstream: &Upstream) {
        let sent = load.end().await;
        assert!(sent > 100, "{sent}");
        upstream.wait_for(sent + self.ingesters.len()).await;
    }

    pub async fn stop(mut self) {
        for ingester in &mut self.ingesters {
            ingester.stop().await;
        }
        for egress in &mut self.egresses {
            egress.stop().await;
        }
    }
}
