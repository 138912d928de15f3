//! Packages with native code.

use kernel_protocol::KernelEvent;

use crate::support::Kernel;
use crate::support::run;

#[test]
fn arrays_and_frames_are_shown() {
  run(async {
    let mut kernel = Kernel::new().await;
    let ran = kernel.run("import numpy as np; np.arange(3)").await;
    assert_eq!(ran.text(), "array([0, 1, 2])");
    let ran = kernel
      .run("import pandas as pd; pd.DataFrame({'a': [1, 2]})")
      .await;
    assert!(
      ran
        .result("text/html")
        .is_some_and(|html| html.contains("<table"))
    );
  });
}

#[test]
fn figures_are_shown() {
  run(async {
    let mut kernel = Kernel::new().await;
    let ran = kernel
      .run("import matplotlib.pyplot as plt; plt.plot([1]); plt.show()")
      .await;
    let shown = ran.events.iter().any(
      |event| matches!(event, KernelEvent::DisplayData(d) if d.as_str().contains("\"image/png\"")),
    );
    assert!(shown, "{:?}", ran.events);
  });
}

#[test]
fn modules_of_the_working_folder_can_be_imported() {
  run(async {
    let mut kernel = Kernel::new().await;
    std::fs::write(kernel.scratch.path().join("own.py"), "value = 5").expect("a module");
    assert_eq!(kernel.run("import own; own.value").await.text(), "5");
  });
}
