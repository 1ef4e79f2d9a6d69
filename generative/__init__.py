"""Generative models by name: `GENERATIVE.get("dcgan")`. `python -m generative.train --list` shows them all."""

from __future__ import annotations

from aprendiz.registry import Entry, Registry

__all__ = ["GENERATIVE"]

GENERATIVE = Registry(
    "generative",
    {
        "autoencoder": Entry(
            "generative.autoencoder:Autoencoder",
            "undercomplete autoencoder: fewer code units than pixels",
            "Hinton and Salakhutdinov 2006, Science 313:504",
        ),
        "conv-autoencoder": Entry(
            "generative.conv_autoencoder:ConvAutoencoder",
            "convolutional autoencoder",
            "Masci et al. 2011, ICANN",
        ),
        "denoising": Entry(
            "generative.denoising:DenoisingAutoencoder",
            "denoising autoencoder: masking, salt-and-pepper or Gaussian noise",
            "Vincent et al. 2010, JMLR 11:3371",
        ),
        "sparse": Entry(
            "generative.sparse:SparseAutoencoder",
            "sparse autoencoder: KL or L1 penalty on overcomplete hidden units",
            "Ng 2011, CS294A lecture notes",
        ),
        "contractive": Entry(
            "generative.contractive:ContractiveAutoencoder",
            "contractive autoencoder: penalty on the encoder's Jacobian",
            "Rifai et al. 2011, ICML",
        ),
        "stacked": Entry(
            "generative.stacked:StackedAutoencoder",
            "stacked denoising autoencoder: greedy, then fine-tuned to reconstruct or to classify",
            "Vincent et al. 2010, JMLR 11:3371",
        ),
        "vae": Entry(
            "generative.vae:VAE",
            "variational autoencoder",
            "Kingma and Welling 2014, ICLR",
        ),
        "beta-vae": Entry(
            "generative.vae:BetaVAE",
            "variational autoencoder with a weighted divergence",
            "Higgins et al. 2017, ICLR",
        ),
        "rbm": Entry(
            "generative.rbm:RBM",
            "restricted Boltzmann machine: contrastive divergence, also persistent",
            "Hinton 2002, Neural Computation 14:1771; Tieleman 2008, ICML",
        ),
        "dbn": Entry(
            "generative.dbn:DBN",
            "deep belief network: a greedy stack of Boltzmann machines, fine-tuned as a classifier",
            "Hinton, Osindero and Teh 2006, Neural Computation 18:1527",
        ),
        "gan": Entry(
            "generative.gan:GAN",
            "the adversarial game as published: minimax, k discriminator steps",
            "Goodfellow et al. 2014, NIPS",
        ),
        "ns-gan": Entry(
            "generative.gan:NonSaturatingGAN",
            "the same with the non-saturating generator loss",
            "Goodfellow et al. 2014, NIPS, section 3",
        ),
        "conditional-gan": Entry(
            "generative.conditional_gan:ConditionalGAN",
            "GAN that is told which class to draw",
            "Mirza and Osindero 2014, arXiv:1411.1784",
        ),
        "dcgan": Entry(
            "generative.dcgan:DCGAN",
            "deep convolutional GAN",
            "Radford, Metz and Chintala 2016, ICLR",
        ),
        "wgan-gp": Entry(
            "generative.wgan_gp:WGANGP",
            "Wasserstein GAN with gradient penalty",
            "Gulrajani et al. 2017, NIPS",
        ),
        "pixelcnn": Entry(
            "generative.pixelcnn:PixelCNN",
            "autoregressive network of masked convolutions",
            "van den Oord et al. 2016a, ICML",
        ),
        "gated-pixelcnn": Entry(
            "generative.gated_pixelcnn:GatedPixelCNN",
            "gated PixelCNN: two stacks without a blind spot",
            "van den Oord et al. 2016b, NIPS",
        ),
    },
    "generative models",
)
"""A name stands for a subclass of `generative.core.GenerativeModel`."""
